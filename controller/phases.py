"""The life of a deployment: everything that decides in which phase it is stands in this file.

An intent has one or more deployments, groups of customizations that go up and down together.
`controller.rotation` says how they follow each other. Going up, by direction and not by host:

    building -> receive -> send -> active

In `receive`, every host gets its customizations with sending off; in `send`, sending is on.
A phase ends when every host has confirmed it, so nobody sends what a peer would not understand.
Going down it is the reverse:

    stop_send -> drain -> remove -> gone | failed
                    └──> inactive -> receive ...

In `drain` all have confirmed that they no longer send; datagrams may still be on their way for
the linger time, so receiving stays on. What fails on the way up is taken away like what is
revoked, and ends as `failed` with the reason. Before `send` nobody has sent, and a deployment goes
straight to `remove`. One that is deactivated goes down as far as `inactive`: its customizations
stay attached and are passed over, until it is activated and goes up again.

Every host has to confirm, but to stop sending only who may send: what a receiver that is away does
not know yet hurts nobody, and its removal is owed until it is back. A sender that is away may still
send, so whoever understands it does so until it is back, or forgotten.

A host's refusal fails a deployment on its way up. One that is `active` stays, whoever refuses
later: a single host must not take it from all the others.

What a host should have is a function of the phases of all deployments; whether it has that is read
from its last report. A host that is away confirms nothing: the deployment waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from controller.plan import Planned
from wire.messages import Customization, Report, Status


class Phase(StrEnum):
    """Where a deployment is; an intent is where `controller.model` says its deployments are."""

    BUILDING = "building"
    RECEIVE = "receive"
    SEND = "send"
    ACTIVE = "active"
    STOP_SEND = "stop_send"
    DRAIN = "drain"
    INACTIVE = "inactive"
    REMOVE = "remove"
    GONE = "gone"
    FAILED = "failed"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.BUILDING: frozenset({Phase.RECEIVE, Phase.GONE, Phase.FAILED}),
    Phase.RECEIVE: frozenset({Phase.SEND, Phase.REMOVE}),
    Phase.SEND: frozenset({Phase.ACTIVE, Phase.STOP_SEND}),
    Phase.ACTIVE: frozenset({Phase.STOP_SEND}),
    Phase.STOP_SEND: frozenset({Phase.DRAIN}),
    Phase.DRAIN: frozenset({Phase.REMOVE, Phase.INACTIVE}),
    Phase.INACTIVE: frozenset({Phase.RECEIVE, Phase.REMOVE}),
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
"""Where a deployment goes once every host has confirmed."""

ARRIVED = {
    Phase.SEND: "every host can receive: sending is switched on",
    Phase.ACTIVE: "every host has confirmed",
    Phase.DRAIN: "nobody sends any more; datagrams may still be on their way",
    Phase.REMOVE: "the linger time is over",
    Phase.INACTIVE: "the linger time is over: it stays attached, and is passed over",
    Phase.RECEIVE: "activated",
    Phase.GONE: "nothing of it is left on any host",
}
"""What an operator is told when a deployment goes onward."""

RETREAT = {
    Phase.BUILDING: Phase.GONE,
    Phase.RECEIVE: Phase.REMOVE,
    Phase.SEND: Phase.STOP_SEND,
    Phase.ACTIVE: Phase.STOP_SEND,
    Phase.INACTIVE: Phase.REMOVE,
    Phase.FAILED: Phase.GONE,
}
"""Where one goes that is revoked or fails; phases left out are on their way down already."""

DEPLOYED = frozenset(
    {
        Phase.RECEIVE,
        Phase.SEND,
        Phase.ACTIVE,
        Phase.STOP_SEND,
        Phase.DRAIN,
        Phase.INACTIVE,
    }
)
"""Phases in which hosts have the customizations."""

SENDING = frozenset({Phase.SEND, Phase.ACTIVE})
"""Phases in which the customizations may send."""

GOING_UP = frozenset({Phase.RECEIVE, Phase.SEND, Phase.ACTIVE})
"""Phases on the way up, and its end."""

FRAGILE = frozenset({Phase.RECEIVE, Phase.SEND})
"""Phases in which a host's refusal fails the deployment."""

OVER = frozenset({Phase.GONE, Phase.FAILED})
"""Phases that a deployment does not leave by itself, with nothing left on any host."""

AWAY = {
    Phase.STOP_SEND: ", and it may still send: it is waited for until it is back, or forgotten",
    Phase.REMOVE: ": what it has is taken away when it is back",
}
"""What it means that a host is away, where others have gone on without it."""


def alike(one: Phase, other: Phase) -> bool:
    """Whether hosts should have the same customizations, set the same way, in both phases."""
    sets = (DEPLOYED, SENDING, (Phase.INACTIVE,))
    return all((one in phases) == (other in phases) for phases in sets)


class PhaseError(RuntimeError):
    """A transition that the table does not allow: a mistake in this program."""


def checked(old: Phase, new: Phase) -> Phase:
    """Return `new` if a deployment may go there from `old`; raises PhaseError."""
    if new not in TRANSITIONS[old]:
        raise PhaseError(f"a deployment cannot go from {old} to {new}")
    return new


SLOTS = 4
"""Places in the order of one intent's priority, for deployments that follow each other."""


@dataclass(frozen=True)
class Standing:
    """What beside its phase decides how a deployment's customizations should be."""

    slot: int = 1
    """Its place in the order, the lowest first."""
    deprecated: bool = False


NORMAL = Standing()


@dataclass(frozen=True)
class HostNow:
    """What is known of a host at this moment."""

    connected: bool = False
    generation: int = 0
    """The generation of its desired state."""
    report: Report | None = None
    """The last of this connection."""
    statuses: Mapping[str, Status] = field(default_factory=dict)
    """Those of the report, by customization."""
    unseen: bool = False
    """Its agent has not been connected since the service began."""

    @property
    def answered(self) -> bool:
        """Whether the host has said what became of the newest generation."""
        return self.report is not None and self.generation in (
            self.report.generation,
            self.report.refused,
        )


@dataclass(frozen=True)
class Switches:
    """What is wanted of a customization in a phase."""

    receive: bool
    send: bool
    active: bool


def switches(planned: Planned, phase: Phase) -> Switches | None:
    """Return how a customization should be set in a phase; None where the host has none."""
    if phase not in DEPLOYED or planned.digest is None:
        return None
    return Switches(
        receive=planned.receives,
        send=planned.sends and phase in SENDING,
        active=phase != Phase.INACTIVE,
    )


def wanted(
    planned: Planned,
    phase: Phase,
    standing: Standing = NORMAL,
    before: Customization | None = None,
) -> Customization | None:
    """Return how a host should have a customization while its deployment is in `phase`.

    `before` is how it was wanted until now: the same, or a copy with what changed, costs less than
    a new one. Who only answers is not deprecated: its peers begin nothing new, and what they began
    before they were told must be understood, also by a socket that is opened meanwhile.
    """
    want = switches(planned, phase)
    if want is None or planned.digest is None:
        return None
    begins = planned.side == "client" or not planned.receives
    values = {
        "digest": planned.digest,
        "priority": planned.priority * SLOTS + standing.slot,
        "receive": want.receive,
        "send": want.send,
        "active": want.active,
        "deprecated": standing.deprecated and begins,
    }
    if before is not None and before.target == planned.target:
        changed = {name: value for name, value in values.items() if getattr(before, name) != value}
        return before.model_copy(update=changed) if changed else before
    return Customization(
        id=planned.id,
        intent=planned.intent,
        module=planned.module,
        target=planned.target,
        match=planned.match,
        parameters=planned.parameters,
        epoch=planned.epoch,
        token=planned.token,
        key=planned.key,
        **values,
    )


def as_wanted(planned: Planned, phase: Phase, now: HostNow) -> bool:
    """Whether a host has a customization at least as far as `phase` needs."""
    actual = now.statuses.get(planned.id)
    if phase == Phase.REMOVE:
        return actual is None
    if phase == Phase.STOP_SEND:
        return actual is None or not actual.send
    want = switches(planned, phase)
    if want is None:
        return phase not in GOING_UP  # there it is being built
    return (
        actual is not None
        and actual.error is None
        and actual.digest == planned.digest
        and (actual.receive, actual.send) == (want.receive, want.send)
        and actual.active == want.active
    )


def is_asked(planned: Sequence[Planned], phase: Phase) -> bool:
    """Whether a host with these customizations has to confirm a phase."""
    return phase != Phase.STOP_SEND or any(item.sends for item in planned)


def obstacle(planned: Sequence[Planned], phase: Phase, now: HostNow) -> str | None:
    """Why a host with these customizations has not confirmed `phase` yet; None once it has."""
    if phase == Phase.DRAIN:
        return None
    if not now.connected:
        return "its agent is not connected" + AWAY.get(phase, "")
    unready = _unbuilt(planned, phase) or _unanswered(now)
    if unready or now.report is None:
        return unready
    if all(as_wanted(item, phase, now) for item in planned):
        return None
    if now.report.refused == now.generation:
        return f"it refuses generation {now.generation}: {now.report.error or 'no reason given'}"
    return _error(planned, now) or (
        f"generation {now.generation} is confirmed, but not every customization is as wanted"
    )


def _unbuilt(planned: Sequence[Planned], phase: Phase) -> str | None:
    """Say what a host waits for whose kernel is another than its code was compiled for."""
    waits = [item for item in planned if item.digest is None and phase in GOING_UP]
    return f"{waits[0].module} is being built for {waits[0].platform}" if waits else None


def _unanswered(now: HostNow) -> str | None:
    return None if now.answered else f"generation {now.generation} is not confirmed yet"


def _error(planned: Iterable[Planned], now: HostNow) -> str | None:
    found = (now.statuses.get(item.id) for item in planned)
    return next((status.error for status in found if status and status.error), None)


def fault(planned: Sequence[Planned], phase: Phase, now: HostNow) -> str | None:
    """Why a deployment on its way up fails on a host, or None.

    A refused generation is the fault of those customizations in it that the host does not have
    already; other deployments on the same host go on.
    """
    if phase not in FRAGILE or not now.connected or now.report is None:
        return None
    if (error := _error(planned, now)) is not None:
        return error
    if now.report.refused != now.generation:
        return None
    if all(as_wanted(item, phase, now) for item in planned):
        return None
    return now.report.error or "the host refuses and gives no reason"
