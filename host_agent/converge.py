"""What the agent does next: pure logic, no sockets, no clock, no disk.

Theory of operation. The NCO sends whole sets (`Desired`) under growing generation numbers; the
agent has one set in force and at most one that it works on. Events go in, one at a time, and
messages for the NCO and actions for the tap come out:

* SETTLED: nothing is under way. What is in force is what the NCO wanted last, or its wish was
  refused and the last good set stayed.
* FETCHING: a wanted set names artifacts that are not here; the NCO was asked (`Need`). When the
  last one has arrived and was found signed, the tap is asked. A lost connection ends the wait: the
  NCO sends its set again when it is back, and what has arrived is kept.
* APPLYING: the tap has the set, in a thread of its own. A newer set waits, the newest only.

A generation older than the newest seen is ignored. A set that cannot be had as a whole is refused
as a whole. The tap only ever gets whole sets, each artifact of which was verified here. Where
someone else changed what is in force, that is told, and put back once.

`generation` is 0 unless the tap has exactly the set of that generation. So after a reboot, when
the saved set is restored without sending, the NCO sends it again: that is the confirmation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire.artifact import ArtifactError, verified
from wire.match import Transport
from wire.messages import (
    MAX_TEXT,
    ArtifactData,
    Counters,
    Customization,
    Desired,
    Need,
    Report,
    Status,
    Target,
)


@dataclass(frozen=True)
class Saved:
    """What outlives the agent: the last set that was applied, and the code it needs."""

    boot_id: str
    """The boot in which it was applied."""
    desired: Desired
    artifacts: tuple[ArtifactData, ...]
    """Verified."""


@dataclass(frozen=True)
class Started:
    """The agent begins: what the taps can do, what is on disk, and what runs in the kernel."""

    targets: tuple[Target, ...]
    """What the taps run; empty where none works."""
    no_tap: str | None
    """Why the other taps do not work."""
    saved: Saved | None
    boot_id: str
    running: tuple[Status, ...]


@dataclass(frozen=True)
class Connected:
    """The NCO has greeted this agent."""


@dataclass(frozen=True)
class Disconnected:
    """The session is over; no answer comes to what was asked in it."""


@dataclass(frozen=True)
class Applied:
    """The tap did what `Apply` asked; this runs now."""

    running: tuple[Status, ...]


@dataclass(frozen=True)
class Failed:
    """The tap could not do what `Apply` asked, and changed nothing."""

    reason: str


@dataclass(frozen=True)
class Observed:
    """What runs in the kernel, looked at while nothing was being applied."""

    running: tuple[Status, ...]
    counters_due: bool = True
    """Whether other counters alone are worth a report now."""


@dataclass(frozen=True)
class Apply:
    """Action for the tap: load the artifacts, then make this the whole set."""

    desired: Desired
    artifacts: tuple[ArtifactData, ...]
    """All that the set names, verified."""
    confirmed: bool
    """The NCO wants exactly this: to be saved. False for what a reboot took away."""


Event = Started | Connected | Disconnected | Applied | Failed | Observed | Desired | ArtifactData
Output = Apply | Need | Report


class State(Enum):
    """Where the agent is on its way to what the NCO wants."""

    SETTLED = auto()
    FETCHING = auto()
    APPLYING = auto()


class Converger:
    """Takes events, gives outputs; `TRANSITIONS` says what happens when."""

    def __init__(self, signer: Ed25519PublicKey) -> None:
        """Trust the artifacts of `signer`; the first event must be `Started`."""
        self.state = State.SETTLED
        self._signer = signer
        self._targets: tuple[Target, ...] = ()
        self._no_tap: str | None = None
        self._in_force: Desired | None = None
        self._wanted: Desired | None = None
        self._applying: Apply | None = None
        self._artifacts: dict[str, ArtifactData] = {}
        self._running: tuple[Status, ...] = ()
        self._refused: int | None = None
        self._error: str | None = None

    @property
    def generation(self) -> int:
        """The generation whose set the tap has, 0 where it is none's."""
        return self._in_force.generation if self._in_force else 0

    def in_force(self, customization: str) -> Customization | None:
        """Return a customization that the tap should have now, by its id."""
        every = self._in_force.customizations if self._in_force else []
        return next((one for one in every if one.id == customization), None)

    def handle(self, event: Event) -> list[Output]:
        """Take one event; return what is to be done because of it, in this order."""
        handler = TRANSITIONS.get((self.state, type(event)))
        return handler(self, event) if handler else []

    # Handlers, in the order of the table.

    def _start(self, event: Started) -> list[Output]:
        self._targets, self._no_tap = event.targets, event.no_tap
        self._running = event.running
        if event.saved is None:
            return []
        self._artifacts = {artifact.digest: artifact for artifact in event.saved.artifacts}
        if event.saved.boot_id != event.boot_id:
            return self._restore(event.saved.desired)
        if _runs(event.saved.desired, event.running):
            self._in_force = event.saved.desired
        return []

    def _greet(self, _: Connected) -> list[Output]:
        return [self._report()]

    def _observe(self, event: Observed) -> list[Output]:
        if event.running == self._running:
            return []
        if not event.counters_due and _uncounted(event.running) == _uncounted(self._running):
            return []
        self._running = event.running
        if self._in_force is None or _runs(self._in_force, event.running):
            return [self._report()]
        return self._mend(self._in_force)

    def _consider(self, desired: Desired) -> list[Output]:
        if desired.generation < self._newest:
            return [self._report()]
        self.state, self._wanted = State.SETTLED, desired
        if desired == self._in_force:
            self._wanted = None
            return [self._report()]
        return self._advance(desired)

    def _take(self, artifact: ArtifactData) -> list[Output]:
        if self._wanted is None or artifact.digest not in self._missing(self._wanted):
            return []
        try:
            verified(artifact, self._signer)
        except ArtifactError as error:
            return self._refuse(self._wanted, str(error))
        self._artifacts[artifact.digest] = artifact
        return [] if self._missing(self._wanted) else self._advance(self._wanted)

    def _abandon(self, _: Disconnected) -> list[Output]:
        self._wanted = None
        if self.state is State.FETCHING:
            self.state = State.SETTLED
        return []

    def _postpone(self, desired: Desired) -> list[Output]:
        if desired.generation >= self._newest:
            self._wanted = desired
        return []

    def _succeed(self, event: Applied) -> list[Output]:
        self._running = event.running
        if self._applying and self._applying.confirmed:
            self._in_force = self._applying.desired
            if (self._refused or 0) <= self.generation:
                self._refused = self._error = None
        return self._settle()

    def _fail(self, event: Failed) -> list[Output]:
        self._error = event.reason
        if self._applying and self._applying.confirmed:
            self._refused = self._applying.desired.generation
        return self._settle()

    # What the handlers share.

    @property
    def _newest(self) -> int:
        """The highest generation that the NCO is known to have reached."""
        applying = self._applying if self._applying and self._applying.confirmed else None
        return max(
            self.generation,
            self._refused or 0,
            self._wanted.generation if self._wanted else 0,
            applying.desired.generation if applying else 0,
        )

    def _advance(self, wanted: Desired) -> list[Output]:
        """Take `wanted` as far as it goes now: refused, waiting for artifacts, or to the tap."""
        self._forget_artifacts()
        if fault := self._fault(wanted):
            return self._refuse(wanted, fault)
        if missing := self._missing(wanted):
            self.state = State.FETCHING
            return [Need(digests=missing)]
        self._wanted = None
        return self._apply(wanted, confirmed=True)

    def _mend(self, lost: Desired) -> list[Output]:
        """Tell that someone else changed what was in force; put it back, or what is newer."""
        self._in_force = None
        if self._refused is None:
            self._error = f"someone else changed the customizations of generation {lost.generation}"
        report = self._report()
        if self._wanted:
            return [report]
        self._wanted = lost
        return [report, *self._advance(lost)]

    def _restore(self, desired: Desired) -> list[Output]:
        """Understand again what peers may still send, but send nothing before the NCO says so."""
        missing = self._missing(desired)
        fault = self._fault(desired) or (f"artifact {missing[0]} is not here" if missing else None)
        if fault:
            self._error = f"generation {desired.generation} not restored after a reboot: {fault}"
            return []
        quiet = [c.model_copy(update={"send": False}) for c in desired.customizations]
        return self._apply(desired.model_copy(update={"customizations": quiet}), confirmed=False)

    def _apply(self, desired: Desired, *, confirmed: bool) -> list[Output]:
        artifacts = tuple(self._artifacts[digest] for digest in _digests(desired))
        self._applying = Apply(desired, artifacts, confirmed)
        self.state = State.APPLYING
        return [self._applying]

    def _settle(self) -> list[Output]:
        """Go on, now that the tap is done, with what came meanwhile."""
        self._applying = None
        self.state = State.SETTLED
        waiting, self._wanted = self._wanted, None
        return self._consider(waiting) if waiting else [self._report()]

    def _refuse(self, wanted: Desired, reason: str) -> list[Output]:
        self._wanted = None
        self._refused, self._error = wanted.generation, reason
        self.state = State.SETTLED
        return [self._report()]

    def _report(self) -> Report:
        return Report(
            generation=self.generation,
            refused=self._refused,
            error=self._error[:MAX_TEXT] if self._error else None,
            customizations=list(self._running),
        )

    def _fault(self, desired: Desired) -> str | None:
        """Why this set can never be applied here, or None."""
        if len({c.id for c in desired.customizations}) < len(desired.customizations):
            return "two customizations have the same id"
        faults = map(self._fault_of, desired.customizations)
        return next(filter(None, faults), None) or _two_taps(desired)

    def _fault_of(self, wanted: Customization) -> str | None:
        if not self._targets:
            return f"no tap works on this host: {self._no_tap}"
        if wanted.target not in self._targets:
            why = f" ({self._no_tap})" if self._no_tap else ""
            here = " and ".join(self._targets)
            return f"{wanted.module}: the taps of this host run {here}, not {wanted.target}{why}"
        artifact = self._artifacts.get(wanted.digest)
        if artifact and (artifact.name, artifact.target) != (wanted.module, wanted.target):
            return (
                f"{wanted.module}: artifact {wanted.digest} is signed as {artifact.name} "
                f"for {artifact.target}"
            )
        return None

    def _missing(self, desired: Desired) -> list[str]:
        return [digest for digest in _digests(desired) if digest not in self._artifacts]

    def _forget_artifacts(self) -> None:
        """Keep the code of what runs and of what is wanted, so that memory stays bounded."""
        needed = {status.digest for status in self._running}
        if self._wanted:
            needed.update(_digests(self._wanted))
        self._artifacts = {d: a for d, a in self._artifacts.items() if d in needed}


def _digests(desired: Desired) -> list[str]:
    """Return the artifacts that a set names, each once, in its order."""
    return list(dict.fromkeys(c.digest for c in desired.customizations))


def _two_taps(desired: Desired) -> str | None:
    """Why a set would put two taps on one socket, or None."""
    first: dict[Transport, Customization] = {}
    for one in desired.customizations:
        other = first.setdefault(one.match.transport, one)
        if one.target != other.target:
            return (
                f"one tap of a host customizes {one.match.transport}, not two: {other.module} of "
                f"intent {other.intent!r} is for {other.target}, {one.module} of {one.intent!r} "
                f"for {one.target}; revoke one, and apply it again"
            )
    return None


def _runs(desired: Desired, running: Sequence[Status]) -> bool:
    """Whether what runs is this set."""

    def identity(one: Customization | Status) -> tuple[str, str, str, bool, bool, bool, bool]:
        switches = one.receive, one.send, one.active, one.deprecated
        return one.id, one.module, one.digest, *switches

    return set(map(identity, desired.customizations)) == set(map(identity, running))


def _uncounted(running: Sequence[Status]) -> list[Status]:
    """Return what runs without what only counts."""
    nothing = {"counters": Counters(), "flows": None}
    return [one.model_copy(update=nothing) for one in running]


TRANSITIONS: dict[tuple[State, type], Callable[[Converger, Any], list[Output]]] = {
    #  in this state   on this event     do                        and be, after it
    (State.SETTLED, Started): Converger._start,  # SETTLED (adopted), APPLYING (restoring)
    (State.SETTLED, Connected): Converger._greet,  # SETTLED
    (State.SETTLED, Observed): Converger._observe,  # SETTLED, FETCHING, APPLYING (mending)
    (State.SETTLED, Desired): Converger._consider,  # SETTLED, FETCHING, APPLYING
    (State.FETCHING, Connected): Converger._greet,  # FETCHING
    (State.FETCHING, Observed): Converger._observe,  # FETCHING
    (State.FETCHING, Desired): Converger._consider,  # SETTLED, FETCHING, APPLYING
    (State.FETCHING, ArtifactData): Converger._take,  # SETTLED, FETCHING, APPLYING
    (State.FETCHING, Disconnected): Converger._abandon,  # SETTLED
    (State.APPLYING, Desired): Converger._postpone,  # APPLYING
    (State.APPLYING, Disconnected): Converger._abandon,  # APPLYING
    (State.APPLYING, Applied): Converger._succeed,  # SETTLED, FETCHING, APPLYING
    (State.APPLYING, Failed): Converger._fail,  # SETTLED, FETCHING, APPLYING
}
"""Any other event in a state changes nothing: it answers a question that nobody asks any more."""
