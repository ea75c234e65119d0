"""Every metric stands in the documentation, and nothing that is none does."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import MagicMock

from prometheus_client import CollectorRegistry

from controller.metrics import MonitorCollector, NcoMetrics
from controller.metrics_network import NetworkCollector
from host_agent.metrics import AgentMetrics
from wire.messages import Status

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"


def names(registry: CollectorRegistry) -> set[str]:
    """Return the names of our metrics, counters with their ending."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
        if family.name.startswith("l45_")
    }


def test_the_documentation_has_every_metric() -> None:
    service, agent = NcoMetrics(), AgentMetrics()
    anything = MagicMock()
    anything.commits = (1, 1.0)
    for text in ("counters", "events", "alerts", "recorder"):
        getattr(anything, text).configure_mock(**{"counts": {}, "dropped": {}})
    anything.counters.by_intent.return_value = {}
    anything.alerts.raised.return_value = []
    service.read_from(
        MonitorCollector(anything, anything), NetworkCollector(anything, anything, anything)
    )
    agent.observed([Status(id="0" * 32, module="idle", digest="0" * 64, receive=True, send=True)])
    found = names(service.registry) | names(agent.registry)
    documented = set(re.findall(r"^\| `(l45_\w+)", DOCUMENT.read_text(), re.MULTILINE))
    assert found == documented
