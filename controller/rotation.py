"""How deployments of one intent follow each other: rotation, without a message lost.

M1 is active everywhere; M2 shall take its place. M2 is a deployment of its own, of the next
*succession*, and goes up as every deployment does (`controller.phases`):

    M1   active    active    active    stop_send   drain   remove   gone
    M2   building  receive   send      active ...

* `receive`: every host understands M2, in the order below M1, and nobody sends it.
* `send`: every host has confirmed that. M2 stands above M1 and sends; a host that has not yet
  heard so sends M1, which everybody still understands. What M2 leaves to the next, M1 takes.
* M2 is active: every host has confirmed that it sends M2. Only now is M1 superseded, in the
  transaction in which M2 became active: it goes down as whatever is revoked. While it drains,
  what is on its way is still understood.

So at each moment, what some host sends, all its peers receive: M2 is sent only in phases that
begin when all had confirmed its `receive`; M1's receiving ends after all have confirmed that they
send M1 no longer, and the linger time. A service that is killed finds both deployments in the
phases that were committed, and goes on there.

Until M2 is active it can go back: one that fails, or is cancelled, goes down by itself, and M1 was
never touched. A host that cannot be reached keeps M2 from becoming active, and so M1 from going,
unless the intent's policy cuts that host off. New sockets get M1 as well until it is removed:
deprecating it earlier would leave a socket that was opened in its drain without the code for what
is on its way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.model import Deployment, IntentState
from controller.phases import DEPLOYED, FRAGILE, OVER, Phase

FIRST, MIDDLE, LAST = 1, 2, 3
"""Slots of the order: what sends before the others, what was there before, what only receives."""

CUT_OFF_AFTER = 60.0
"""Seconds of a phase after which a host that is away is cut off, where the policy says so, and
after which nobody waits any more for one that is left out to stop sending."""


def slots(deployments: Sequence[Deployment]) -> dict[str, int]:
    """Return each deployment's place in the order of its intent's priority."""
    there = [one for one in deployments if one.phase in DEPLOYED]
    if not there:
        return {}
    newest = max(one.succession for one in there)
    alone = all(one.succession == newest for one in there)
    only_receives = all(one.phase == Phase.RECEIVE for one in there if one.succession == newest)
    top = LAST if only_receives and not alone else FIRST
    return {one.uid: top if one.succession == newest else MIDDLE for one in there}


def superseded(intent: IntentState, arrived: Deployment) -> list[Deployment]:
    """Return what a deployment that has become active takes the place of."""
    older = (one for one in intent.deployments if one.succession < arrived.succession)
    return [one for one in older if not one.goes_down]


def rotating(intent: IntentState) -> Deployment | None:
    """Return the deployment that is to take the place of others, while it has not done so."""
    for one in reversed(intent.deployments):
        if one.kind == "rotation" and not one.goes_down and one.phase != Phase.ACTIVE:
            return one
    return None


def in_transition(intent: IntentState) -> bool:
    """Whether deployments of an intent are still on their way up, or a rotation's way down.

    What is only to be removed yet is in nobody's way: that is done when hosts are back.
    """
    rests = OVER | {Phase.ACTIVE, Phase.REMOVE}
    return any(one.phase not in rests and one.kind != "left" for one in intent.deployments)


def keeping_up(intent: IntentState) -> list[Deployment]:
    """Return the deployments that a rotation waits for, or the next one would."""
    if not in_transition(intent):
        return []
    newest = max((one.succession for one in intent.deployments if not one.goes_down), default=0)
    return [
        one
        for one in intent.deployments
        if (one.kind == "rotation" and one.phase in FRAGILE)
        or (one.phase == Phase.STOP_SEND and one.goes_down and one.succession != newest)
    ]


def next_module(modules: Sequence[str], now: str) -> str:
    """Return what comes after a module, in turn."""
    if not modules:
        return now
    return modules[(modules.index(now) + 1) % len(modules)] if now in modules else modules[0]


def held_back(
    state: IntentState, deployment: Deployment, given_up: Callable[[Deployment, str], bool]
) -> bool:
    """Whether a deployment that could go on waits for others of its succession.

    Hosts that joined send to servers of the deployments before theirs. So those that go up together
    send only when all of them receive, and those that go down together stop to receive only when
    none of them sends any more. `given_up` says of which hosts nobody waits for that any more.
    """
    others = [
        one
        for one in state.deployments
        if one is not deployment and one.succession == deployment.succession
    ]
    if deployment.phase == Phase.RECEIVE and deployment.proven:
        return any(one.phase == Phase.INACTIVE or _is_not_received(one) for one in others)
    if deployment.phase == Phase.DRAIN:
        return any(_may_send(one, given_up) for one in others)
    return False


def _may_send(deployment: Deployment, given_up: Callable[[Deployment, str], bool]) -> bool:
    """Whether one that goes down still sends, or stopped only now: its drain is to come."""
    if deployment.phase != Phase.STOP_SEND:
        return False
    waits = deployment.unconfirmed
    return not waits or not all(given_up(deployment, host) for host in waits)


def _is_not_received(deployment: Deployment) -> bool:
    return deployment.phase == Phase.RECEIVE and bool(deployment.unconfirmed)
