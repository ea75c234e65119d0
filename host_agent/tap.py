"""The contract between the agent and a tap driver.

A driver serves one network namespace: the one its process is in. It keeps nothing of its own
between calls that the kernel does not also have: an agent that restarts asks `customizations`
and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from wire.artifact import Artifact
from wire.messages import Customization, Flow, Status, Target


class TapError(RuntimeError):
    """The tap cannot do what was asked; nothing was changed. The text says why and what to do."""


@dataclass(frozen=True)
class TapStatus:
    """What a tap holds in this kernel, over all namespaces."""

    installed: bool
    namespaces: int | None = 0
    """That have customizations; None from a tap that does not say."""
    customizations: int = 0
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """What a tap says to a challenge; `wire.challenge` has what the answer is computed over."""

    answer: bytes
    evidence: bytes
    """What of the code the answer is over."""
    strength: Literal["kernel", "agent"]
    """Who computed it."""


class Tap(Protocol):
    """What a tap driver does for the agent. All calls block, none longer than a second or so."""

    name: str
    """`bpf` or `kmod`."""

    target: Target
    """The target of the artifacts it runs."""

    def start(self) -> None:
        """Make the tap ready in this namespace, adopting what runs already; idempotent.

        Raises TapError where the kernel or the permissions do not allow it.
        """

    def has_artifact(self, digest: str) -> bool:
        """Whether the code is loaded, so that a customization of it could be created now."""

    def load_artifact(self, artifact: Artifact) -> None:
        """Load verified code into the kernel; runs nothing. Loading it again changes nothing.

        Raises TapError with the kernel's words (verifier log's last lines) where it is refused.
        """

    def apply(self, customizations: Sequence[Customization]) -> None:
        """Make this the whole set of customizations of the namespace, in one step.

        Packets see the set from before or the new one, never a mixture. Customizations that stay
        keep their counters. All their artifacts must be loaded. On TapError the old set stays.
        """

    def customizations(self) -> list[Status]:
        """Return what is in force in this namespace now, with counters, whoever set it up."""

    def flows(self) -> list[Flow]:
        """Return the namespace's sockets that have customizations; bounded, the tap's number."""

    def prove(self, customization: Customization, nonce: bytes) -> Proof:
        """Return the proof that this customization runs; raises TapError where it does not."""

    def stop(self) -> None:
        """Take the customizations and hooks of this namespace away; idempotent."""
