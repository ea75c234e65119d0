"""Makes what the REST API shows from what the orchestrator and the switch server know."""

from __future__ import annotations

from dataclasses import asdict

from controller.api import (
    CustomizationView,
    EventView,
    HostView,
    IntentHostView,
    IntentView,
    MirrorView,
    ModuleView,
)
from controller.cib import HostRow, IntentRow
from controller.errors import Refusal
from controller.orchestrator import Orchestrator
from controller.phases import DEPLOYED, HostNow, Phase, wanted
from controller.plan import Planned
from controller.switch_link import Mirror
from controller.switch_server import SwitchServer
from wire.messages import Status


class Views:
    """Read only."""

    def __init__(self, orchestrator: Orchestrator, switches: SwitchServer) -> None:
        self._orchestrator = orchestrator
        self._switches = switches

    def hosts(self) -> list[HostView]:
        """Return all hosts in the order of their names."""
        rows = self._orchestrator.cib.hosts()
        counts = {host: len(wanted) for host, wanted in self._orchestrator.desired().items()}
        return [self._host(rows[name], counts[name]) for name in sorted(rows)]

    def modules(self) -> list[ModuleView]:
        """Return all modules in the order of their names."""
        return [self._module(name) for name in self._orchestrator.modules.names()]

    def intents(self) -> list[IntentView]:
        """Return all intents that are not gone."""
        return [self._intent(row) for row in self._orchestrator.cib.intents()]

    def intent(self, name: str) -> IntentView:
        """Return one intent, also one that is just gone; raises NotFound."""
        row = self._orchestrator.cib.intent(name)
        if row is None:
            raise self._orchestrator.unknown(name)
        return self._intent(row)

    def _host(self, row: HostRow, customizations: int) -> HostView:
        now = self._orchestrator.now(row.name)
        seen = next(filter(None, map(self._switches.seen, row.addresses)), None)
        return HostView(
            name=row.name,
            connected=now.connected,
            addresses=row.addresses,
            kernel=row.kernel,
            tap=row.tap,
            tap_error=row.tap_error,
            targets=row.targets,
            generation_wanted=row.generation,
            generation_confirmed=now.report.generation if now.report else None,
            error=_refusal(now),
            switch=f"s{seen.dpid} port {seen.port}" if seen else None,
            customizations=customizations,
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

    def _intent(self, row: IntentRow) -> IntentView:
        waiting = self._orchestrator.waiting(row)
        hosts = []
        for name, planned in row.by_host().items():
            now = self._orchestrator.now(name)
            hosts.append(
                IntentHostView(
                    name=name,
                    connected=now.connected,
                    generation_wanted=now.generation,
                    generation_confirmed=now.report.generation if now.report else None,
                    waiting=waiting.get(name),
                    error=_refusal(now),
                    customizations=[_customization(item, row.phase, now) for item in planned],
                )
            )
        history = self._orchestrator.history.of(row.name)
        return IntentView(
            name=row.name,
            phase=row.phase,
            error=row.error,
            waiting=waiting,
            spec=row.intent,
            hosts=hosts,
            mirrors=[self._mirror(mirror, row.phase) for mirror in row.mirrors],
            history=[EventView(**asdict(event)) for event in history],
        )

    def _mirror(self, mirror: Mirror, phase: Phase) -> MirrorView:
        view = MirrorView(
            **mirror.model_dump(),
            state="not wanted yet" if phase == Phase.BUILDING else "unknown",
            reason="",
            switch=None,
            switch_port=None,
            packets=0,
            bytes=0,
        )
        if phase not in DEPLOYED:
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
    actual = _status(planned, now)
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


def _status(planned: Planned, now: HostNow) -> Status | None:
    statuses = now.report.customizations if now.report else []
    return next((status for status in statuses if status.id == planned.id), None)


def _refusal(now: HostNow) -> str | None:
    if now.report is None or now.report.refused != now.generation:
        return None
    return now.report.error or "it refuses and gives no reason"
