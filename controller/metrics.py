"""The service's metrics for Prometheus; docs/monitoring.md says what each one means.

Most are read from the parts of the service when somebody asks; what would be forgotten by then
(durations) is observed when it happens.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from controller.database import Database
from controller.history import Event
from controller.monitor import Monitor
from controller.phases import OVER, Phase
from wire.messages import MESSAGE_COUNTERS

INTENTS = 200
"""Intents that have series of their own; the others' are summed under `OTHERS`."""

OTHERS = "(others)"

DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Buckets of what the service does by itself, in seconds."""


class PhaseTimes:
    """How long intents are in each phase on their way."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(
            "l45_nco_phase_seconds",
            "Time that an intent spent in a phase until it went on.",
            ["phase"],
            registry=registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self._since: dict[str, tuple[Phase, float]] = {}

    def intent_event(self, intent: str, event: Event) -> None:
        """Note that an intent entered another phase, if it did."""
        phase, since = self._since.get(intent, (None, 0.0))
        if event.phase == phase or event.host is not None:
            return
        if phase is not None and phase != Phase.ACTIVE:
            self._histogram.labels(phase.value).observe(max(0.0, event.at - since))
        if event.phase in OVER:
            self._since.pop(intent, None)
        else:
            self._since[intent] = event.phase, event.at


class NcoMetrics:
    """The registry, and the durations that others observe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.phases = PhaseTimes(self.registry)
        self.settle = Histogram(
            "l45_nco_settle_seconds",
            "Time that deciding what hosts should have took, where it changed.",
            registry=self.registry,
            buckets=DURATIONS,
        )
        self.commit = Histogram(
            "l45_nco_commit_seconds",
            "Time until that was committed; nobody is told before.",
            registry=self.registry,
            buckets=DURATIONS,
        )
        self.challenges = Counter(
            "l45_nco_challenges",
            "Challenges of customizations, by what became of them.",
            ["result"],
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def settled(self, deciding: float, committing: float) -> None:
        """Observe how many seconds a change took, until it was decided and then committed."""
        self.settle.observe(deciding)
        self.commit.observe(committing)

    def read_from(self, *collectors: Collector) -> None:
        """Ask these, too, whenever somebody asks for the metrics."""
        for collector in collectors:
            self.registry.register(collector)


class MonitorCollector(Collector):
    """What the monitor and the database count."""

    def __init__(self, monitor: Monitor, database: Database) -> None:
        self._monitor = monitor
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield from self._agents()
        yield from self._monitoring()
        yield from self._stored()
        yield from intent_metrics(self._monitor.counters.by_intent())

    def _agents(self) -> Iterator[Metric]:
        counts = self._monitor.counts
        yield counter("l45_nco_agent_connections", "Sessions of agents.", counts.connected)
        yield counter("l45_nco_agent_losses", "Sessions of agents that ended.", counts.lost)
        yield counter("l45_nco_reports", "Reports of agents.", counts.reports)
        yield counter("l45_nco_flow_messages", "Messages about flows.", counts.flow_messages)

    def _monitoring(self) -> Iterator[Metric]:
        monitor = self._monitor
        yield gauge("l45_nco_open_flows", "Flows with customizations.", monitor.flows.open)
        yield counter("l45_nco_flows_omitted", "Flows not kept track of.", monitor.flows.omitted)
        there = monitor.counters.customizations
        yield gauge("l45_nco_customizations", "Customizations that hosts report.", there)
        yield gauge("l45_nco_event_listeners", "Readers of events.", monitor.events.listeners)
        lost = monitor.events.lost_listeners
        yield counter("l45_nco_event_listeners_lost", "Readers that were too slow.", lost)
        kinds = ((kind.value, count) for kind, count in monitor.events.counts.items())
        yield labelled(CounterMetricFamily, "l45_nco_events", "Events.", "kind", kinds)
        raised = Tally(alert.kind.value for alert in monitor.alerts.raised())
        yield labelled(
            GaugeMetricFamily, "l45_nco_alerts", "Alerts that are raised.", "kind", raised.items()
        )

    def _stored(self) -> Iterator[Metric]:
        recorder, database = self._monitor.recorder, self._database
        commits, seconds = database.commits
        yield counter("l45_nco_database_commits", "Transactions.", commits)
        yield counter("l45_nco_database_commit_seconds", "Time they took together.", seconds)
        yield gauge("l45_nco_database_waiting", "Changes not committed yet.", database.waiting)
        yield gauge("l45_nco_monitoring_waiting", "Rows not stored yet.", recorder.waiting)
        yield labelled(
            CounterMetricFamily,
            "l45_nco_monitoring_dropped",
            "Rows dropped because the database was behind.",
            "table",
            recorder.dropped.items(),
        )


def intent_metrics(sums: dict[str, Tally[str]]) -> Iterator[Metric]:
    """Yield what each intent's customizations count; of many intents, some are summed."""
    named = dict(sorted(sums.items())[:INTENTS])
    for name in sums.keys() - named.keys():
        named.setdefault(OTHERS, Tally()).update(sums[name])
    messages = CounterMetricFamily(
        "l45_nco_intent_messages",
        "Messages, by what customizations did with them.",
        labels=["intent", "what"],
    )
    size = CounterMetricFamily(
        "l45_nco_intent_bytes",
        "Bytes of applications in customized messages.",
        labels=["intent", "direction"],
    )
    flows = GaugeMetricFamily("l45_nco_intent_flows", "Sockets customized.", labels=["intent"])
    for intent, counts in named.items():
        for what in MESSAGE_COUNTERS:
            messages.add_metric([intent, what], counts[what])
        for direction in ("sent", "received"):
            size.add_metric([intent, direction], counts[f"{direction}_bytes"])
        flows.add_metric([intent], counts["flows"])
    yield from (messages, size, flows)


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """Return a counter; its name ends in `_total` by itself."""
    return CounterMetricFamily(name, text, value=value)


def labelled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    label: str,
    values: Iterable[tuple[str, float]],
) -> Metric:
    """Return a metric with one label."""
    family = kind(name, text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family
