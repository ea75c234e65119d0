"""What a plan changes of what runs, and whether the network has room for it and allows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.errors import Conflict, Invalid
from controller.intent import Intent
from controller.plan import Plan, Planned
from controller.policy import Policy, breaches
from controller.switch_link import MAX_MIRRORS
from wire.manifest import Manifest, ManifestError, pack_parameters
from wire.messages import MAX_CUSTOMIZATIONS


@dataclass(frozen=True)
class Changes:
    """What a new plan of a running intent changes."""

    added: tuple[Planned, ...]
    removed: tuple[Planned, ...]
    kept: tuple[Planned, ...]
    """As they are running, not as they were planned anew."""


def changes(running: Iterable[Planned], plan: Plan) -> Changes:
    """Compare what runs with a new plan; the same host, side and match are the same thing."""
    before = {(one.host, one.side, one.match): one for one in running}
    after = {(one.host, one.side, one.match): one for one in plan.customizations}
    return Changes(
        added=tuple(one for key, one in after.items() if key not in before),
        removed=tuple(one for key, one in before.items() if key not in after),
        kept=tuple(one for key, one in before.items() if key in after),
    )


def check_modules(intent: Intent, policy: Policy, manifest_of: Callable[[str], Manifest]) -> None:
    """Refuse an intent whose modules the policy does not allow, or that cannot take turns.

    Raises Conflict with the policy's sentence, and Invalid.
    """
    names = (intent.module, *intent.rotation.modules)
    manifests = {name: manifest_of(name) for name in names}
    if found := breaches(policy, intent, manifests):
        raise Conflict("; ".join(found))
    first = manifests[intent.module]
    for name in intent.rotation.modules:
        other = manifests[name]
        try:
            pack_parameters(other, intent.rotation.parameters.get(name, {}))
        except ManifestError as error:
            raise Invalid(f"rotation.parameters: {error}") from error
        if other.transport != first.transport:
            raise Invalid(
                f"rotation.modules: {name} is for {other.transport}, {first.name} is for "
                f"{first.transport}: only modules for one transport can take turns"
            )
        if not intent.port and other.match.server_port != first.match.server_port:
            raise Invalid(
                f"rotation.modules: {name} and {first.name} have different ports of their own: say "
                "`port` in the intent"
            )


def check_room(plan: Plan, others: Iterable[Planned]) -> None:
    """Refuse a plan that a host has no room for; `others` are customizations that stay there.

    Raises Conflict.
    """
    used = Counter(item.host for item in (*plan.customizations, *others))
    for item in plan.customizations:
        if used[item.host] > MAX_CUSTOMIZATIONS:
            raise Conflict(
                f"host {item.host} would have {used[item.host]} customizations, at most "
                f"{MAX_CUSTOMIZATIONS} are possible: revoke one there or name fewer endpoints"
            )


def check_mirrors(plan: Plan, others: int) -> None:
    """Refuse a plan with more mirrors, besides `others`, than switches can be asked for."""
    total = len(plan.mirrors) + others
    if plan.mirrors and total > MAX_MIRRORS:
        raise Conflict(
            f"all intents together would have {total} mirrors, at most {MAX_MIRRORS} are "
            "possible: revoke one that has a middlebox, or name fewer servers"
        )
