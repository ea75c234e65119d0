"""Hosts come and go while an intent is up: what that adds, and what it takes away.

A new plan of the intent is compared with what it has. What is new becomes a deployment of its own,
which goes up by itself: its hosts understand before they send, and a new server before its
clients begin. What is no longer meant is split off into a deployment that goes down: clients of a
server that goes stop sending to it before it stops to understand. The rest is not touched.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from controller.cib import Cib
from controller.deployer import Deployer
from controller.errors import listed
from controller.model import Deployment, IntentState, Kind
from controller.phases import Phase
from controller.plan import Planned

SPLIT_INTO = {
    Phase.RECEIVE: Phase.REMOVE,
    Phase.INACTIVE: Phase.REMOVE,
    Phase.SEND: Phase.STOP_SEND,
    Phase.ACTIVE: Phase.STOP_SEND,
    Phase.STOP_SEND: Phase.STOP_SEND,
    Phase.DRAIN: Phase.STOP_SEND,
}
"""The phase in which customizations begin to go down that are split off in another."""


class Membership:
    """Changes who belongs to an intent."""

    def __init__(self, cib: Cib, deployer: Deployer) -> None:
        self._cib = cib
        self._deployer = deployer

    def join(
        self, state: IntentState, added: Iterable[Planned], like: Deployment, uid: uuid.UUID
    ) -> None:
        """Let what is new in a plan go up beside what is there."""
        joined = new_deployment(state, uid, "joined", like)
        joined.fill(added)
        self._cib.add_deployment(state, joined)
        hosts = listed(joined.items, f"nco show {state.name}")
        self._deployer.announce(joined, f"new: {hosts}")

    def leave(
        self, state: IntentState, deployment: Deployment, ids: set[str], why: str, uid: uuid.UUID
    ) -> None:
        """Split customizations off, and let them go down.

        What is left may be nothing: then it is to be looked at by `tidy`, once it is known whether
        others take their place.
        """
        taken = self._cib.take_items(deployment, ids)
        begin = SPLIT_INTO.get(deployment.phase)
        if taken and begin is not None:
            left = new_deployment(state, uid, "left", deployment, begin)
            left.ends = True
            left.fill(taken)
            self._cib.add_deployment(state, left)
            self._deployer.announce(left, why)
        self._deployer.began(deployment)

    def forget(self, state: IntentState, host: str) -> None:
        """Take a host out that never returns: nothing can be done there any more."""
        for deployment in list(state.deployments):
            items = deployment.items.get(host, ())
            if items:
                self._cib.take_items(deployment, {item.id for item in items})
                self._deployer.began(deployment)
                self.tidy(state, [deployment])

    def tidy(self, state: IntentState, deployments: Iterable[Deployment]) -> None:
        """Take out deployments that have lost all of their hosts."""
        for one in deployments:
            if not one.items and one in state.deployments:
                self._deployer.vanish(state, one)


def new_deployment(
    state: IntentState,
    uid: uuid.UUID,
    kind: Kind,
    like: Deployment | None = None,
    phase: Phase = Phase.BUILDING,
) -> Deployment:
    """Return the next deployment of an intent, with nothing in it yet.

    It carries the module of another one, or the intent's own.
    """
    return Deployment(
        uid=uid.hex,
        intent=state.name,
        number=max((one.number for one in state.deployments), default=0) + 1,
        succession=like.succession if like else state.succession,
        kind=kind,
        module=like.module if like else state.intent.module,
        parameters=dict(like.parameters if like else state.intent.parameters),
        phase=phase,
    )


def running(state: IntentState, succession: int) -> list[Deployment]:
    """Return the deployments of a succession that are to stay."""
    return [one for one in state.deployments if one.succession == succession and not one.goes_down]


def current(state: IntentState) -> int:
    """Return the newest succession of an intent that is to stay."""
    return max((one.succession for one in state.deployments if not one.goes_down), default=0)
