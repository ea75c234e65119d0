"""What a module is compiled for on a host: what the host prefers of what can be built."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.errors import Invalid
from controller.facts import HostFacts, Platform
from wire.manifest import Manifest
from wire.match import Match
from wire.messages import Target

BUILDABLE: tuple[Target, ...] = ("bpf", "kmod")
"""Targets that the NCO can compile for."""

Lacking = Callable[[Platform], str | None]
"""Says why nothing can be compiled for a platform, or None."""


class NoTap(Invalid):
    """No tap of a host can run a module there."""


def choose(manifest: Manifest, match: Match, facts: HostFacts, lacking: Lacking) -> Platform:
    """Return what `manifest`'s module is compiled for on a host.

    Raises NoTap, and Invalid where it could run on no host at all.
    """
    buildable = set(manifest.targets) & set(BUILDABLE)
    if not buildable:
        raise Invalid(
            f"module {manifest.name} cannot be deployed: its targets are "
            f"{_listed(manifest.targets)}, hosts run {_listed(BUILDABLE)}"
        )
    settled = facts.settled.get(manifest.transport)
    reasons = []
    for target in facts.targets:
        if target in buildable and settled in (None, target):
            platform = Platform(target, facts.kernel if target == "kmod" else None)
            beyond = match.beyond_bpf if target == "bpf" else None
            reason = f"the bpf tap has no {beyond}" if beyond else lacking(platform)
            if reason is None:
                return platform
            reasons.append(reason)
    raise NoTap(_why_not(manifest, facts, buildable, reasons))


def _why_not(
    manifest: Manifest, facts: HostFacts, buildable: set[Target], reasons: list[str]
) -> str:
    if reasons:
        return f"module {manifest.name} on host {facts.name}: {'; '.join(reasons)}"
    settled = facts.settled.get(manifest.transport)
    if settled and buildable & set(facts.targets):
        return (
            f"module {manifest.name} cannot run on host {facts.name} beside what is there: the "
            f"{settled} tap has its {manifest.transport} sockets, and the module can be built for "
            f"{_listed(buildable)}: revoke the others first"
        )
    return (
        f"module {manifest.name} cannot run on host {facts.name}: it can be built for "
        f"{_listed(buildable)}, the host runs {_listed(facts.targets)}"
        + (f" ({facts.tap_error})" if facts.tap_error else "")
    )


def _listed(targets: Iterable[str]) -> str:
    return ", ".join(sorted(targets)) or "nothing"
