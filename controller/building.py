"""What is to be compiled for which deployments, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controller.model import Deployment, Host, IntentState
from controller.operations import Operations
from controller.phases import GOING_UP, Phase
from controller.plan import Platform


@dataclass(frozen=True)
class BuildOrder:
    """A deployment that waits for artifacts: all of them, or each that it could do without."""

    intent: str
    uid: str
    module: str
    platforms: frozenset[Platform]
    key: str
    """Tells orders apart; the same while one stands, also where a platform is added."""


class Building(Operations):
    """Operations, and what builds are for; the base of the orchestrator."""

    def to_build(self) -> list[BuildOrder]:
        """Return which deployments wait for artifacts."""
        return [
            order
            for state in self.cib.intents()
            for one in state.deployments
            if one.unbuilt and _wants_code(one)
            for order in _orders(one)
        ]

    def built(self, order: BuildOrder, digests: Mapping[Platform, str]) -> None:
        """Note the artifacts of a deployment that still waits for them."""
        state, deployment = self._ordered(order)
        if state is None or deployment is None:
            return
        self.cib.set_digests(deployment, digests)
        names = ", ".join(f"{platform} {digest[:12]}" for platform, digest in digests.items())
        what = f"artifact {names} is built"
        if deployment.phase == Phase.BUILDING and not deployment.unbuilt:
            self._deployer.enter(state, deployment, Phase.RECEIVE, what)
        else:
            self._note(state.name, deployment.phase, what, None)
        self._deployer.changed_at(deployment.items)
        for host in deployment.items:
            self._deployer.heard_of(host)
        self._changed()

    def build_failed(self, order: BuildOrder, reason: str) -> None:
        """Fail a deployment whose code cannot be made, or go on without the hosts that need it."""
        state, deployment = self._ordered(order)
        if state is None or deployment is None:
            return
        deployment.unbuilt -= order.platforms
        without = {
            host: reason
            for host, items in deployment.items.items()
            if any(one.digest is None and one.platform in order.platforms for one in items)
        }
        if not without:  # who needed it is gone
            self._deployer.began(deployment)
        elif _does_without(deployment):
            self._leave_out(state, without)
        else:
            self._deployer.fail(state, deployment, reason)
        self._changed()

    def _ordered(self, order: BuildOrder) -> tuple[IntentState | None, Deployment | None]:
        """Return what a build is for, if it still waits for it."""
        state = self.cib.intent(order.intent)
        for one in state.deployments if state else ():
            if one.uid == order.uid and _wants_code(one):
                return state, one
        return None, None

    def _rebuild(self, deployment: Deployment, host: Host) -> None:
        """Have code built for the kernel that a host runs now."""
        for position, item in enumerate(deployment.items.get(host.name, ())):
            if item.platform.kernel not in (None, host.kernel):
                platform = Platform(item.target, host.kernel)
                self.cib.set_item(
                    deployment, position, replace(item, platform=platform, digest=None)
                )
                deployment.unbuilt.add(platform)


def _orders(one: Deployment) -> list[BuildOrder]:
    if not _does_without(one):
        return [BuildOrder(one.intent, one.uid, one.module, frozenset(one.unbuilt), one.uid)]
    return [
        BuildOrder(one.intent, one.uid, one.module, frozenset({platform}), f"{one.uid} {platform}")
        for platform in sorted(one.unbuilt)
    ]


def _does_without(deployment: Deployment) -> bool:
    """Whether it goes on without hosts that no code can be built for."""
    return deployment.proven or deployment.kind == "joined"


def _wants_code(deployment: Deployment) -> bool:
    return deployment.phase in GOING_UP or deployment.phase in (Phase.BUILDING, Phase.INACTIVE)
