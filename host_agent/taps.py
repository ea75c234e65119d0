"""The taps of this host: which of them work here, and each customization given to its own.

One tap per host and transport: sets that would have two are refused by `host_agent.converge`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from host_agent import bpf_tap, kmod_tap
from host_agent.complaints import Complaints
from host_agent.privileges import RUN, needs_root
from host_agent.tap import Proof, Tap, TapError, TapStatus
from wire.artifact import Artifact
from wire.messages import Customization, Flow, Status, Target

log = logging.getLogger(__name__)

T = TypeVar("T")

Choice = Literal["auto", "bpf", "kmod"]


@dataclass(frozen=True)
class Kind:
    """A kind of tap, and what can be done to a kernel with it."""

    name: str
    unavailable: Callable[[], str | None]
    """Why it does not work here, or None."""
    installed: Callable[[], bool]
    install: Callable[[], None]
    uninstall: Callable[[], None]
    status: Callable[[], TapStatus]
    driver: Callable[[], Tap]


def kinds(choice: Choice = "auto", run: Path = RUN, core: Path | None = None) -> list[Kind]:
    """Return the kinds that were chosen, the preferred first; `core` is the l45.ko to load."""
    kmod = Kind(
        name="kmod",
        unavailable=partial(kmod_tap.unavailable, core),
        installed=kmod_tap.installed,
        install=partial(kmod_tap.install, run, core),
        uninstall=partial(kmod_tap.uninstall, run),
        status=kmod_tap.status,
        driver=partial(kmod_tap.KmodTap, run, core),
    )
    bpf = Kind(
        name="bpf",
        unavailable=bpf_tap.unavailable,
        installed=partial(bpf_tap.installed, run),
        install=partial(bpf_tap.install, run),
        uninstall=partial(bpf_tap.uninstall, run),
        status=partial(bpf_tap.status, run),
        driver=partial(bpf_tap.BpfTap, run),
    )
    return [kind for kind in (kmod, bpf) if choice in ("auto", kind.name)]


def usable(chosen: Sequence[Kind]) -> tuple[list[Kind], dict[str, str]]:
    """Return those that work here, and why the others do not.

    Raises TapError where root is missing, or the only one that was chosen does not work.
    """
    if reason := needs_root():
        raise TapError(reason)
    reasons = {kind.name: kind.unavailable() for kind in chosen}
    faults = {name: reason for name, reason in reasons.items() if reason}
    if len(chosen) == 1 and faults:
        raise TapError(faults[chosen[0].name])
    return [kind for kind in chosen if kind.name not in faults], faults


class Taps:
    """The drivers of this network namespace's taps as one."""

    def __init__(self, drivers: Sequence[Tap], faults: Mapping[str, str] | None = None) -> None:
        """Use `drivers`, the preferred first; `faults` says of other taps why they do not work."""
        self._drivers = list(drivers)
        self._faults = dict(faults or {})
        self._complaints = Complaints()
        self._applied: dict[str, list[Customization]] = {}
        """What each driver was given last; nothing of one that was given nothing yet."""

    @property
    def names(self) -> list[str]:
        """Names of the taps that work."""
        return [tap.name for tap in self._drivers]

    @property
    def targets(self) -> tuple[Target, ...]:
        """What they run."""
        return tuple(tap.target for tap in self._drivers)

    @property
    def failing(self) -> list[str]:
        """Names of the taps that do not work."""
        return list(self._faults)

    @property
    def error(self) -> str | None:
        """Why the other taps do not work, or None where all do."""
        return "; ".join(f"{name}: {fault}" for name, fault in self._faults.items()) or None

    def start(self) -> None:
        """Make all ready, adopting what runs; one that cannot be made ready is left out."""
        for tap in list(self._drivers):
            try:
                tap.start()
            except (TapError, OSError) as error:
                self._drivers.remove(tap)
                self._faults[tap.name] = str(error)
        for name, fault in self._faults.items():
            log.log(
                logging.INFO if self._drivers else logging.ERROR,
                "tap does not work here tap=%s reason=%r",
                *(name, fault),
            )

    def load_artifact(self, artifact: Artifact) -> None:
        """Load verified code with the tap that it is for; raises TapError."""
        for tap in self._drivers:
            if tap.target == artifact.target:
                return tap.load_artifact(artifact)
        raise TapError(f"no tap of this host runs {artifact.target}")

    def apply(self, customizations: Sequence[Customization]) -> None:
        """Make this the whole set; what a tap refuses is taken back from those before it."""
        shares = {
            tap.name: [one for one in customizations if one.target == tap.target]
            for tap in self._drivers
        }
        done: list[Tap] = []
        try:
            for tap in self._drivers:
                if shares[tap.name] or self._holds_any(tap):
                    tap.apply(shares[tap.name])
                    done.append(tap)
        except TapError:
            self._take_back(done)
            raise
        self._applied |= shares

    def _holds_any(self, tap: Tap) -> bool:
        with suppress(TapError):
            return bool(tap.customizations())
        return False

    def _take_back(self, done: Sequence[Tap]) -> None:
        """Apply the sets from before; of what an earlier agent applied, observing will tell."""
        for tap in done:
            with suppress(TapError):
                if tap.name in self._applied:
                    tap.apply(self._applied[tap.name])

    def customizations(self) -> list[Status]:
        """Return what is in force; what cannot be read counts as gone, and is logged once."""
        return self._read("customizations", lambda tap: tap.customizations())

    def prove(self, customization: Customization, nonce: bytes) -> Proof:
        """Return the proof that a customization runs; raises TapError."""
        for tap in self._drivers:
            if tap.target == customization.target:
                return tap.prove(customization, nonce)
        raise TapError(f"no tap of this host runs {customization.target}")

    def flows(self) -> list[Flow]:
        """Return the sockets that have customizations; what cannot be read is logged once."""
        return self._read("flows", lambda tap: tap.flows())

    def _read(self, what: str, read: Callable[[Tap], list[T]]) -> list[T]:
        found: list[T] = []
        for tap in self._drivers:
            try:
                found += read(tap)
                self._complaints.is_over((tap.name, what))
            except TapError as error:
                if self._complaints.is_new((tap.name, what), str(error)):
                    log.error("%s not read tap=%s reason=%r", what, tap.name, str(error))
        return found
