"""Puts the monitor together, begins with what the CIB has, and runs it beside the service."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter

from controller import monitor_queries
from controller.challenger import Outcome
from controller.config import Retention
from controller.database import Database
from controller.events import EventLog, Filter, Kind
from controller.history import EVENTS_KEPT
from controller.history import Event as IntentEvent
from controller.metrics import MonitorCollector, NcoMetrics, NetworkCollector
from controller.monitor import Monitor, Watched
from controller.monitor_network import NetworkView
from controller.monitor_recorder import Recorder
from controller.monitor_rest import make_router
from controller.orchestrator import Orchestrator
from controller.phases import Phase
from controller.retention import keep_pruned
from controller.switch_server import SwitchServer


class Monitoring:
    """All of monitoring, as the service knows it."""

    def __init__(
        self,
        database: Database,
        orchestrator: Orchestrator,
        switches: SwitchServer,
        retention: Retention,
        *,
        last_event: int,
    ) -> None:
        """Use `Monitoring.begin`, which reads the last event's number."""
        self._database = database
        self._retention = retention
        recorder = Recorder(database)
        self.monitor = Monitor(
            recorder,
            EventLog(recorder, time.time, last_event),
            NetworkView(orchestrator, switches.mirror),
            clock=time.time,
            sample_seconds=retention.counters_seconds,
        )
        self.metrics = NcoMetrics()
        self.metrics.read_from(
            MonitorCollector(self.monitor, database), _network_metrics(orchestrator, switches)
        )
        self.agents = Watched(orchestrator, self.monitor)
        """Who agents' connections should tell."""
        orchestrator.history.observers += [
            self.monitor.intent_event,
            self.metrics.phases.intent_event,
        ]

    @classmethod
    async def begin(
        cls,
        database: Database,
        orchestrator: Orchestrator,
        switches: SwitchServer,
        retention: Retention,
    ) -> Monitoring:
        """Return it, with what was known before the service was restarted."""
        last = await database.read(monitor_queries.last_event)
        monitoring = cls(database, orchestrator, switches, retention, last_event=last)
        monitor = monitoring.monitor
        monitor.alerts.restore(await database.read(monitor_queries.raised_alerts))
        monitor.flows.restore(await database.read(monitor_queries.open_flows))
        for row in orchestrator.cib.intents():
            orchestrator.history.restore(row.name, await _history(database, row.name))
        return monitoring

    def challenged(self, outcome: Outcome) -> None:
        """Note what became of a challenge."""
        self.metrics.challenges.labels(outcome.verdict.value).inc()
        self.monitor.challenged(outcome)

    def router(self) -> APIRouter:
        """Return the routes that show what is monitored."""
        return make_router(self.monitor, self._database, self.metrics.registry)

    async def run(self) -> None:
        """Watch and prune until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.monitor.run())
            tasks.create_task(keep_pruned(self._database, self._retention))


async def _history(database: Database, intent: str) -> list[IntentEvent]:
    wanted = Filter(frozenset({Kind.INTENT}), intent)
    events = await database.read(monitor_queries.newest_events(wanted, limit=EVENTS_KEPT))
    return [
        IntentEvent(event.at, Phase(event.phase), event.host, event.text)
        for event in events
        if event.phase in set(Phase)
    ]


def _network_metrics(orchestrator: Orchestrator, switches: SwitchServer) -> NetworkCollector:
    """Return what the orchestrator and the switches know at the moment."""
    network = NetworkCollector()

    def agents() -> float:
        return sum(orchestrator.now(host).connected for host in orchestrator.cib.hosts())

    def behind() -> float:
        now = [orchestrator.now(host) for host in orchestrator.cib.hosts()]
        return sum(h.report is None or h.report.generation != h.generation for h in now)

    def intents() -> dict[str, float]:
        phases = [row.phase for row in orchestrator.cib.intents()]
        return {phase.value: phases.count(phase) for phase in Phase if phase != Phase.GONE}

    network.gauge("l45_nco_hosts", "Hosts known.", lambda: len(orchestrator.cib.hosts()))
    network.gauge("l45_nco_agents_connected", "Agents connected.", agents)
    network.gauge(
        "l45_nco_hosts_unconfirmed",
        "Hosts that have not confirmed the newest generation of their desired state.",
        behind,
    )
    network.gauge("l45_nco_switches_connected", "Switches.", lambda: len(switches.switches))
    network.labelled("l45_nco_intents", "Intents.", "phase", lambda: intents().items())
    return network
