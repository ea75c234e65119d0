"""Puts the monitor together, begins with what the CIB has, and runs it beside the service."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter

from controller import monitor_queries
from controller.build_farm import BuildFarm
from controller.challenger import Outcome
from controller.config import Retention
from controller.database import Database
from controller.events import EventLog, Filter
from controller.history import EVENTS_KEPT
from controller.history import Event as IntentEvent
from controller.metrics import MonitorCollector, NcoMetrics
from controller.metrics_network import NetworkCollector
from controller.monitor import Monitor, Watched
from controller.monitor_kinds import Kind
from controller.monitor_network import NetworkView
from controller.monitor_recorder import Recorder
from controller.monitor_rest import make_router
from controller.names import Names
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
        farm: BuildFarm,
        retention: Retention,
        *,
        last_event: int,
    ) -> None:
        """Use `Monitoring.begin`, which reads the last event's number."""
        self._database = database
        self._retention = retention
        self._names = Names(orchestrator.cib, database)
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
            MonitorCollector(self.monitor, database),
            NetworkCollector(orchestrator, switches, farm),
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
        farm: BuildFarm,
        retention: Retention,
    ) -> Monitoring:
        """Return it, with what was known before the service was restarted."""
        last = await database.read(monitor_queries.last_event)
        monitoring = cls(database, orchestrator, switches, farm, retention, last_event=last)
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
        return make_router(self.monitor, self._database, self.metrics.registry, self._names)

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
