"""Makes what the REST API shows from what the orchestrator and the switch server know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from controller.api import (
    CustomizationView,
    DeploymentView,
    EventView,
    HostView,
    IntentHostView,
    IntentView,
    MirrorView,
    ModuleView,
)
from controller.errors import Refusal
from controller.model import Deployment, Host, IntentState
from controller.names import unknown_intent
from controller.orchestrator import Orchestrator
from controller.phases import DEPLOYED, OVER, HostNow, Phase, wanted
from controller.plan import Planned
from controller.switch_link import Mirror
from controller.switch_server import SwitchServer

UNCONFIRMED_SHOWN = 32

NOT_CONFIRMED = OVER | {Phase.BUILDING, Phase.DRAIN}
"""Phases that no host confirms."""


class Views:
    """Read only."""

    def __init__(self, orchestrator: Orchestrator, switches: SwitchServer) -> None:
        self._orchestrator = orchestrator
        self._switches = switches

    def hosts(self) -> list[HostView]:
        """Return all hosts in the order of their names."""
        hosts = self._orchestrator.cib.hosts()
        return [self._host(hosts[name]) for name in sorted(hosts)]

    def modules(self) -> list[ModuleView]:
        """Return all modules in the order of their names."""
        return [self._module(name) for name in self._orchestrator.modules.names()]

    def intents(self) -> list[IntentView]:
        """Return all intents that are not gone."""
        return [self._intent(row) for row in self._orchestrator.cib.intents()]

    def intent(self, name: str, *, hosts: bool = True) -> IntentView:
        """Return one intent, also one that is just gone, with or without its hosts.

        Raises NotFound.
        """
        row = self._orchestrator.cib.intent(name)
        if row is None:
            raise unknown_intent(self._orchestrator.cib, name)
        return self._intent(row, hosts=hosts)

    def _host(self, row: Host) -> HostView:
        now = self._orchestrator.now(row.name)
        seen = next(filter(None, map(self._switches.seen, row.addresses)), None)
        return HostView(
            name=row.name,
            labels=list(row.labels),
            connected=now.connected,
            addresses=list(row.addresses),
            kernel=row.kernel,
            tap=row.tap,
            tap_error=row.tap_error,
            targets=list(row.targets),
            generation_wanted=row.generation,
            generation_confirmed=now.report.generation if now.report else None,
            error=_refusal(now),
            switch=f"s{seen.dpid} port {seen.port}" if seen else None,
            customizations=len(row.customizations),
        )

    def _module(self, name: str) -> ModuleView:
        try:
            manifest = self._orchestrator.modules.manifest(name)
        except Refusal as refusal:
            return ModuleView(name=name, error=str(refusal))
        return ModuleView(
            name=name,
            version=manifest.version,
            summary=manifest.summary,
            transport=manifest.transport,
            targets=manifest.targets,
            server_port=manifest.match.server_port,
            parameters=manifest.parameters,
        )

    def _intent(self, state: IntentState, *, hosts: bool = True) -> IntentView:
        waiting = self._orchestrator.waiting(state)
        history = self._orchestrator.history.of(state.name)
        return IntentView(
            name=state.name,
            phase=state.phase,
            error=state.error,
            waiting=waiting,
            spec=state.intent,
            module=state.module,
            priority=state.priority,
            deprecated=state.deprecated,
            left_out=state.left_out,
            unfollowed=state.unfollowed,
            deployments=[_deployment(deployment) for deployment in state.deployments],
            hosts=self._intent_hosts(state, waiting) if hosts else [],
            mirrors=[self._mirror(mirror, state) for mirror in state.mirrors],
            history=[EventView(**asdict(event)) for event in history],
        )

    def _intent_hosts(self, state: IntentState, waiting: Mapping[str, str]) -> list[IntentHostView]:
        hosts: dict[str, IntentHostView] = {}
        for deployment in state.deployments:
            for name, planned in deployment.items.items():
                view = hosts.setdefault(name, self._intent_host(name, waiting))
                now = self._orchestrator.now(name)
                view.customizations += [_customization(p, deployment.phase, now) for p in planned]
        return list(hosts.values())

    def _intent_host(self, name: str, waiting: Mapping[str, str]) -> IntentHostView:
        now = self._orchestrator.now(name)
        return IntentHostView(
            name=name,
            connected=now.connected,
            generation_wanted=now.generation,
            generation_confirmed=now.report.generation if now.report else None,
            waiting=waiting.get(name),
            error=_refusal(now),
            customizations=[],
        )

    def _mirror(self, mirror: Mirror, state: IntentState) -> MirrorView:
        view = MirrorView(
            **mirror.model_dump(),
            state="not wanted yet" if state.phase == Phase.BUILDING else "unknown",
            reason="",
            switch=None,
            switch_port=None,
            packets=0,
            bytes=0,
        )
        if not any(one.phase in DEPLOYED for one in state.deployments):
            return view
        status = self._switches.mirror(mirror.id)
        if status is None:
            connected = self._switches.connected
            reason = "not reported yet" if connected else "no Ryu application is connected"
            return view.model_copy(update={"reason": reason})
        return view.model_copy(
            update={
                "state": status.state,
                "reason": status.reason,
                "switch": status.dpid,
                "switch_port": status.port,
                "packets": status.packets,
                "bytes": status.bytes,
            }
        )


def _customization(planned: Planned, phase: Phase, now: HostNow) -> CustomizationView:
    want = wanted(planned, phase)
    actual = now.statuses.get(planned.id)
    return CustomizationView(
        id=planned.id,
        side=planned.side,
        module=planned.module,
        target=planned.target,
        kernel=planned.platform.kernel,
        digest=planned.digest,
        match=planned.match,
        priority=planned.priority,
        receive_wanted=want is not None and want.receive,
        receive=actual.receive if actual else None,
        send_wanted=want is not None and want.send,
        send=actual.send if actual else None,
        flows=actual.flows if actual else None,
        counters=actual.counters if actual else None,
        error=actual.error if actual else None,
    )


def _deployment(deployment: Deployment) -> DeploymentView:
    waits = set() if deployment.phase in NOT_CONFIRMED else deployment.unconfirmed
    return DeploymentView(
        number=deployment.number,
        kind=deployment.kind,
        succession=deployment.succession,
        module=deployment.module,
        parameters=deployment.parameters,
        phase=deployment.phase,
        error=deployment.error,
        hosts=len(deployment.items),
        unconfirmed=sorted(waits)[:UNCONFIRMED_SHOWN],
    )


def _refusal(now: HostNow) -> str | None:
    if now.report is None or now.report.refused != now.generation:
        return None
    return now.report.error or "it refuses and gives no reason"
