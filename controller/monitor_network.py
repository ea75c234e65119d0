"""The rest of the service as the monitor sees it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from controller.orchestrator import Orchestrator
from controller.phases import OVER
from controller.switch_link import MirrorStatus


class NetworkView:
    """Answers the monitor's questions (`controller.monitor.Network`)."""

    def __init__(
        self, orchestrator: Orchestrator, mirror: Callable[[str], MirrorStatus | None]
    ) -> None:
        """`mirror` returns what the switches say of a mirror."""
        self._orchestrator = orchestrator
        self._mirror = mirror

    def intent_of(self, host: str, customization: str) -> str | None:
        """Return the intent of a customization on a host."""
        return self._orchestrator.intent_of(host, customization)

    def missing(self) -> Collection[str]:
        """Return the hosts that should have customizations and whose agents are away."""
        hosts = self._orchestrator.cib.hosts()
        return [
            name
            for name in hosts.keys() - self._orchestrator.connected_hosts()
            if any(one.phase not in OVER for one in hosts[name].deployments.values())
        ]

    def impossible_mirrors(self) -> Mapping[str, str]:
        """Return, by intent, why the switches cannot mirror its traffic."""
        found = {}
        for wanted in self._orchestrator.steering().mirrors:
            status = self._mirror(wanted.id)
            if status is not None and status.state == "impossible":
                found[wanted.id] = f"the traffic of {wanted.id} is not mirrored: {status.reason}"
        return found

    def unfollowed(self) -> Mapping[str, str]:
        """Return, by intent, why its hosts are not followed."""
        return {
            state.name: f"hosts and addresses of {state.name} are not followed: {state.unfollowed}"
            for state in self._orchestrator.cib.intents()
            if state.unfollowed is not None
        }
