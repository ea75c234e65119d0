"""What the planner knows of hosts, and what code can be compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wire.match import Transport
from wire.messages import Target

Side = Literal["client", "server"]


@dataclass(frozen=True)
class HostFacts:
    """What the planner needs to know of a host, as its agent said it last."""

    name: str
    addresses: tuple[str, ...]
    targets: tuple[Target, ...]
    """What its taps run, the preferred first."""
    tap_error: str | None = None
    """Why other taps cannot run there."""
    kernel: str = ""
    """Its kernel's release."""
    settled: Mapping[Transport, Target] = field(default_factory=dict)
    """Which tap has its sockets of a transport already: two on one socket cannot be."""
    labels: frozenset[str] = frozenset()
    """What the operator called it, each `NAME=VALUE`."""
    present: bool = True
    """Whether its agent is connected, or it takes part already; who is not, is not waited for."""


@dataclass(frozen=True, order=True)
class Platform:
    """What code is compiled for."""

    target: Target
    kernel: str | None = None
    """The kernel release, for `kmod`; None where one artifact serves all."""

    def __str__(self) -> str:
        return f"{self.target} {self.kernel}" if self.kernel else self.target
