"""Watches the network: what agents and intents do becomes events, flows, counters and alerts.

Nothing that the NCO decides depends on it. It sees what agents say on its way to the orchestrator
(`Watched`), what happens to intents (`intent_event`), and looks at the rest now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.api_trust import deed
from controller.audit import Entry
from controller.challenger import Outcome, Verdict
from controller.events import EventLog
from controller.history import Event as IntentEvent
from controller.monitor_alerts import Alerts
from controller.monitor_counters import CounterTable
from controller.monitor_flows import FlowTable
from controller.monitor_kinds import Alarm, Kind
from controller.monitor_recorder import Recorder
from controller.orchestrator import Link, Orchestrator
from wire.messages import ArtifactData, Flows, Hello, Report

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often it is looked for what nobody tells: hosts that stay away, mirrors."""

AWAY_SECONDS = 10.0
"""How long a host may be away before an alert; an agent that restarts is back sooner."""


class Network(Protocol):
    """What is asked of the rest of the service."""

    def intent_of(self, host: str, customization: str) -> str | None:
        """Return the intent of a customization on a host."""

    def missing(self) -> Collection[str]:
        """Return the hosts that should have customizations and whose agents are away."""

    def impossible_mirrors(self) -> Mapping[str, str]:
        """Return, by intent, why the switches cannot mirror its traffic."""

    def unfollowed(self) -> Mapping[str, str]:
        """Return, by intent, why its hosts are not followed."""


@dataclass
class Counts:
    """What happened how often since the service began."""

    connected: int = 0
    lost: int = 0
    reports: int = 0
    flow_messages: int = 0


class Monitor:
    """See the module's text. All methods are called from the event loop's thread."""

    def __init__(
        self,
        recorder: Recorder,
        events: EventLog,
        network: Network,
        *,
        clock: Callable[[], float],
        sample_seconds: float,
    ) -> None:
        """`clock` gives Unix time; counters are sampled every `sample_seconds`."""
        self.counts = Counts()
        self.events = events
        self.recorder = recorder
        self.alerts = Alerts(recorder, events, clock)
        self.flows = FlowTable(recorder, clock, network.intent_of)
        self.counters = CounterTable(recorder, clock, network.intent_of)
        self._network = network
        self._clock = clock
        self._sample_seconds = sample_seconds
        self._sampled = clock()
        self._away: dict[str, float] = {}
        """Hosts with customizations that are away, and since when."""

    # -- what happens

    def host_connected(self, hello: Hello) -> None:
        """Note an agent that has introduced itself."""
        self.counts.connected += 1
        taps = hello.tap or "no tap"
        self.events.add(Kind.HOST, f"connected: kernel {hello.kernel}, {taps}", host=hello.host)

    def host_lost(self, host: str) -> None:
        """Note that a connection has ended, and no newer one took its place."""
        self.counts.lost += 1
        self.events.add(Kind.HOST, "its connection has ended", host=host)

    def reported(self, host: str, report: Report) -> None:
        """Note what an agent says is so."""
        self.counts.reports += 1
        self.counters.told(host, report)
        if report.refused is None or report.refused <= report.generation:
            self.alerts.clear(Alarm.REFUSED, host, f"generation {report.generation} is in force")
        else:
            why = report.error or "it gives no reason"
            text = f"{host} refuses generation {report.refused}: {why}"
            self.alerts.raise_alert(Alarm.REFUSED, host, text, host=host)

    def flows_reported(self, host: str, flows: Flows) -> None:
        """Note the flows of a host."""
        self.counts.flow_messages += 1
        self.flows.told(host, flows)

    def intent_event(self, intent: str, event: IntentEvent) -> None:
        """Note what happened to an intent."""
        self.events.add(
            Kind.INTENT,
            event.text,
            intent=intent,
            host=event.host,
            phase=event.phase.value,
            at=event.at,
        )

    def audited(self, entry: Entry) -> None:
        """Note who changed something, or tried to."""
        who = f"{entry.actor} ({entry.source})" if entry.source else entry.actor
        self.events.add(Kind.AUDIT, f"{who}: {deed(entry.action, entry.subject)}: {entry.outcome}")

    def challenged(self, outcome: Outcome) -> None:
        """Note what became of a challenge; one that failed is an alert until it is cleared."""
        if outcome.verdict is Verdict.PASSED:
            return
        subject = outcome.subject
        text = f"{subject.module} of {subject.intent} on {subject.host}: {outcome.text}"
        self.alerts.raise_alert(
            Alarm.CHALLENGE,
            subject.customization,
            text,
            host=subject.host,
            intent=subject.intent,
        )

    def authorities_watched(self, expiring: dict[str, str]) -> None:
        """Note which authorities expire soon: text by name."""
        self.alerts.keep_only(Alarm.CA, expiring, "it is replaced")

    # -- what is looked for

    async def run(self) -> None:
        """Look again and again, until cancelled; a fault in here ends nothing else."""
        while True:
            try:
                self.look()
            except Exception:
                log.exception("monitoring: this look failed")
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Raise and clear alerts, and sample counters, where it is time."""
        now = self._clock()
        self._look_for_lost_hosts(now)
        mirrors = dict(self._network.impossible_mirrors())
        self.alerts.keep_only(Alarm.MIRROR, mirrors, "it is possible again, or no longer wanted")
        unfollowed = dict(self._network.unfollowed())
        self.alerts.keep_only(Alarm.UNFOLLOWED, unfollowed, "it is followed again, or revoked")
        if not 0 <= now - self._sampled < self._sample_seconds:
            self._sampled = now
            self.counters.sample()

    def _look_for_lost_hosts(self, now: float) -> None:
        away = self._network.missing()
        self._away = {host: self._away.get(host, self._since(host, now)) for host in away}
        lost = {
            host: f"{host} is away, with customizations on it"
            for host, since in self._away.items()
            if now - since >= AWAY_SECONDS
        }
        self.alerts.keep_only(Alarm.HOST_LOST, lost, "it is back, or has no customizations")

    def _since(self, host: str, now: float) -> float:
        """Return since when a host is away that was not a moment ago, or before a restart."""
        return 0.0 if self.alerts.is_raised(Alarm.HOST_LOST, host) else now


class Watched:
    """The orchestrator as agents' connections see it, with the monitor listening."""

    def __init__(self, agents: Orchestrator, monitor: Monitor) -> None:
        self._agents = agents
        self._monitor = monitor
        self._links: dict[str, Link] = {}

    def connected(self, link: Link, hello: Hello) -> None:
        """Take note of an agent that has introduced itself."""
        self._links[hello.host] = link
        self._agents.connected(link, hello)
        self._monitor.host_connected(hello)

    def disconnected(self, host: str, link: Link) -> None:
        """Take note that a connection has ended."""
        self._agents.disconnected(host, link)
        if self._links.get(host) is link:
            del self._links[host]
            self._monitor.host_lost(host)

    def reported(self, host: str, link: Link, report: Report) -> None:
        """Take note of a report."""
        self._agents.reported(host, link, report)
        if self._links.get(host) is link:
            self._monitor.reported(host, report)

    def flows_reported(self, host: str, link: Link, flows: Flows) -> None:
        """Take note of a host's flows."""
        if self._links.get(host) is link:
            self._monitor.flows_reported(host, flows)

    def artifact_for(self, host: str, digest: str) -> ArtifactData | None:
        """Return an artifact that this host may have."""
        return self._agents.artifact_for(host, digest)
