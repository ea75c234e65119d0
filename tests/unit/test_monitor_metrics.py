"""The service's metrics, as Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controller.history import Event
from controller.metrics import INTENTS, OTHERS, MonitorCollector, NcoMetrics, intent_metrics
from controller.monitor_kinds import Alarm, Kind
from controller.phases import Phase
from tests.unit.monitor_kit import flow, hello, report, world
from wire.messages import Flows


def samples(metrics: NcoMetrics) -> dict[tuple[str, ...], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_the_monitor_counts_is_there(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as there:
            metrics = NcoMetrics()
            metrics.read_from(MonitorCollector(there.monitor, there.database))
            there.monitor.host_connected(hello("h1"))
            there.monitor.reported("h1", report("a", "b", sent=4))
            there.monitor.flows_reported("h1", Flows(flows=[flow(1, "a")], omitted=2))
            there.monitor.alerts.raise_alert(Alarm.CHALLENGE, "a", "")
            await there.read(lambda _: None)
            found = samples(metrics)
            assert found["l45_nco_agent_connections_total",] == 1
            assert found["l45_nco_intent_messages_total", "tag", "sent"] == 4
            assert found["l45_nco_intent_flows", "compress"] == 1
            assert found["l45_nco_open_flows",] == 1
            assert found["l45_nco_flows_omitted_total",] == 2
            assert found["l45_nco_alerts", "challenge"] == 1
            assert found["l45_nco_events_total", Kind.HOST.value] == 1
            assert ("l45_nco_database_commits_total",) in found
            assert found["l45_nco_monitoring_waiting",] == 0

    asyncio.run(play())


def test_phases_are_timed_until_the_intent_goes_on() -> None:
    metrics = NcoMetrics()
    for at, phase, host in (
        (10.0, Phase.BUILDING, None),
        (12.0, Phase.RECEIVE, None),
        (12.5, Phase.RECEIVE, "h1"),
        (13.0, Phase.SEND, None),
        (13.5, Phase.ACTIVE, None),
        (99.0, Phase.STOP_SEND, None),
        (99.5, Phase.GONE, None),
    ):
        metrics.phases.intent_event("tag", Event(at, phase, host, ""))
    found = samples(metrics)
    for phase, seconds in (("building", 2), ("receive", 1), ("send", 0.5), ("stop_send", 0.5)):
        assert found["l45_nco_phase_seconds_sum", phase] == seconds
        assert found["l45_nco_phase_seconds_count", phase] == 1
    assert ("l45_nco_phase_seconds_sum", "active") not in found
    assert metrics.phases._since == {}


@pytest.mark.parametrize("count", [3, INTENTS + 50])
def test_series_of_intents_are_bounded_and_nothing_is_lost(count: int) -> None:
    sums = {f"i{number:04}": Counter(sent=1) for number in range(count)}
    messages, *_ = intent_metrics(sums)
    sent = [sample for sample in messages.samples if sample.labels["what"] == "sent"]
    assert len(sent) == min(count, INTENTS + 1)
    assert sum(sample.value for sample in sent) == count
    assert (OTHERS in {sample.labels["intent"] for sample in sent}) == (count > INTENTS)
