"""The life of an intent: everything that decides in which phase it is stands in this file.

Going up, by direction and not by host:

    building -> receive -> send -> active

In `receive`, every host gets its customizations with sending off; in `send`, sending is on.
A phase ends when every host has confirmed it, so nobody sends what a peer would not understand.
Going down it is the reverse:

    stop_send -> drain -> remove -> gone | failed

In `drain` all have confirmed that they no longer send; datagrams may still be on their way for
the linger time, so receiving stays on. What fails on the way up is taken away like what is
revoked, and ends as `failed` with the reason. Before `send` nobody has sent, and an intent goes
straight to `remove`.

What a host should have is a function of the phases of all intents; whether it has that is read
from its last report. A host that is away confirms nothing: the intent waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controller.plan import Planned
from wire.messages import Customization, Report


class Phase(StrEnum):
    """Where an intent is."""

    BUILDING = "building"
    RECEIVE = "receive"
    SEND = "send"
    ACTIVE = "active"
    STOP_SEND = "stop_send"
    DRAIN = "drain"
    REMOVE = "remove"
    GONE = "gone"
    FAILED = "failed"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.BUILDING: frozenset({Phase.RECEIVE, Phase.GONE, Phase.FAILED}),
    Phase.RECEIVE: frozenset({Phase.SEND, Phase.REMOVE}),
    Phase.SEND: frozenset({Phase.ACTIVE, Phase.STOP_SEND}),
    Phase.ACTIVE: frozenset({Phase.STOP_SEND}),
    Phase.STOP_SEND: frozenset({Phase.DRAIN}),
    Phase.DRAIN: frozenset({Phase.REMOVE}),
    Phase.REMOVE: frozenset({Phase.GONE, Phase.FAILED}),
    Phase.FAILED: frozenset({Phase.GONE}),
    Phase.GONE: frozenset(),
}

ONWARD = {
    Phase.RECEIVE: Phase.SEND,
    Phase.SEND: Phase.ACTIVE,
    Phase.STOP_SEND: Phase.DRAIN,
    Phase.DRAIN: Phase.REMOVE,
    Phase.REMOVE: Phase.GONE,
}
"""Where an intent goes once every host has confirmed."""

ARRIVED = {
    Phase.SEND: "every host can receive: sending is switched on",
    Phase.ACTIVE: "every host has confirmed",
    Phase.DRAIN: "nobody sends any more; datagrams may still be on their way",
    Phase.REMOVE: "the linger time is over",
    Phase.GONE: "nothing of it is left on any host",
}
"""What an operator is told when an intent goes onward."""

RETREAT = {
    Phase.BUILDING: Phase.GONE,
    Phase.RECEIVE: Phase.REMOVE,
    Phase.SEND: Phase.STOP_SEND,
    Phase.ACTIVE: Phase.STOP_SEND,
    Phase.FAILED: Phase.GONE,
}
"""Where an intent goes that is revoked or fails; phases left out are on their way down already."""

DEPLOYED = frozenset({Phase.RECEIVE, Phase.SEND, Phase.ACTIVE, Phase.STOP_SEND, Phase.DRAIN})
"""Phases in which hosts have the customizations."""

SENDING = frozenset({Phase.SEND, Phase.ACTIVE})
"""Phases in which the customizations may send."""

GOING_UP = frozenset({Phase.RECEIVE, Phase.SEND, Phase.ACTIVE})
"""Phases in which a host's refusal fails the intent."""

OVER = frozenset({Phase.GONE, Phase.FAILED})
"""Phases that an intent does not leave by itself, with nothing left on any host."""


class PhaseError(RuntimeError):
    """A transition that the table does not allow: a mistake in this program."""


def checked(old: Phase, new: Phase) -> Phase:
    """Return `new` if an intent may go there from `old`; raises PhaseError."""
    if new not in TRANSITIONS[old]:
        raise PhaseError(f"an intent cannot go from {old} to {new}")
    return new


@dataclass(frozen=True)
class HostNow:
    """What is known of a host at this moment."""

    connected: bool = False
    generation: int = 0
    """The generation of its desired state."""
    report: Report | None = None
    """The last of this connection."""

    @property
    def answered(self) -> bool:
        """Whether the host has said what became of the newest generation."""
        return self.report is not None and self.generation in (
            self.report.generation,
            self.report.refused,
        )


def wanted(planned: Planned, phase: Phase) -> Customization | None:
    """Return how a host should have a customization while its intent is in `phase`."""
    if phase not in DEPLOYED or planned.digest is None:
        return None
    return Customization(
        id=planned.id,
        intent=planned.intent,
        module=planned.module,
        digest=planned.digest,
        target=planned.target,
        match=planned.match,
        priority=planned.priority,
        parameters=planned.parameters,
        receive=planned.receives,
        send=planned.sends and phase in SENDING,
        epoch=planned.epoch,
        token=planned.token,
        key=planned.key,
    )


def as_wanted(planned: Planned, phase: Phase, report: Report) -> bool:
    """Whether a host has a customization at least as far as `phase` needs."""
    actual = next((status for status in report.customizations if status.id == planned.id), None)
    if phase == Phase.REMOVE:
        return actual is None
    if phase == Phase.STOP_SEND:
        return actual is None or not actual.send
    want = wanted(planned, phase)
    if want is None:
        return phase not in GOING_UP  # there it is being built
    return (
        actual is not None
        and actual.error is None
        and (actual.receive, actual.send, actual.digest) == (want.receive, want.send, want.digest)
    )


def obstacle(planned: Sequence[Planned], phase: Phase, now: HostNow) -> str | None:
    """Why a host with these customizations has not confirmed `phase` yet; None once it has."""
    if phase == Phase.DRAIN:
        return None
    if not now.connected:
        return "its agent is not connected"
    unready = _unbuilt(planned, phase) or _unanswered(now)
    if unready or now.report is None:
        return unready
    if all(as_wanted(item, phase, now.report) for item in planned):
        return None
    if now.report.refused == now.generation:
        return f"it refuses generation {now.generation}: {now.report.error or 'no reason given'}"
    return f"generation {now.generation} is confirmed, but not every customization is as wanted"


def _unbuilt(planned: Sequence[Planned], phase: Phase) -> str | None:
    """Say what a host waits for whose kernel is another than its code was compiled for."""
    waits = [item for item in planned if item.digest is None and phase in GOING_UP]
    return f"{waits[0].module} is being built for {waits[0].platform}" if waits else None


def _unanswered(now: HostNow) -> str | None:
    return None if now.answered else f"generation {now.generation} is not confirmed yet"


def fault(planned: Iterable[Planned], phase: Phase, now: HostNow) -> str | None:
    """Why an intent on its way up fails on a host, or None.

    A refused generation is the fault of those customizations in it that the host does not have
    already; other intents on the same host go on.
    """
    if phase not in GOING_UP or not now.connected or now.report is None:
        return None
    for item in planned:
        for status in now.report.customizations:
            if status.id == item.id and status.error is not None:
                return status.error
        if now.report.refused == now.generation and not as_wanted(item, phase, now.report):
            return now.report.error or "the host refuses and gives no reason"
    return None
