"""Metrics of what the orchestrator, the switches, the builds and the connections know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from controller.build_farm import BuildFarm
from controller.control import AgentConnection
from controller.metrics import counter, gauge, labelled
from controller.orchestrator import Orchestrator
from controller.phases import Phase
from controller.switch_server import SwitchServer


class NetworkCollector(Collector):
    """Reads them when somebody asks for the metrics."""

    def __init__(self, orchestrator: Orchestrator, switches: SwitchServer, farm: BuildFarm) -> None:
        self._orchestrator = orchestrator
        self._switches = switches
        self._farm = farm

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield from self._hosts()
        yield from self._intents()
        yield from self._builds()
        yield from self._traffic()
        number = len(self._switches.switches)
        yield gauge("l45_nco_switches_connected", "Switches that are connected.", number)

    def _hosts(self) -> Iterator[Metric]:
        now = [self._orchestrator.now(host) for host in self._orchestrator.cib.hosts()]
        behind = sum(h.report is None or h.report.generation != h.generation for h in now)
        yield gauge("l45_nco_hosts", "Hosts that are known.", len(now))
        connected = sum(host.connected for host in now)
        yield gauge("l45_nco_agents_connected", "Agents that are connected.", connected)
        yield gauge(
            "l45_nco_hosts_unconfirmed",
            "Hosts that have not confirmed the newest generation of their desired state.",
            behind,
        )

    def _intents(self) -> Iterator[Metric]:
        phases = Counter(state.phase for state in self._orchestrator.cib.intents())
        counts = [(phase.value, phases[phase]) for phase in Phase if phase != Phase.GONE]
        yield labelled(GaugeMetricFamily, "l45_nco_intents", "Intents.", "phase", counts)

    def _builds(self) -> Iterator[Metric]:
        farm = self._farm
        yield gauge("l45_nco_builds_running", "Compilers at work.", len(farm.compiling))
        yield gauge("l45_nco_builds_waiting", "Builds without a processor.", len(farm.waiting))
        results = ((result, farm.counts[result]) for result in ("cached", "compiled", "failed"))
        yield labelled(CounterMetricFamily, "l45_nco_builds", "Builds.", "result", results)
        yield counter("l45_nco_build_seconds", "Time that compilers ran.", farm.seconds)

    def _traffic(self) -> Iterator[Metric]:
        traffic = AgentConnection.traffic
        ways = (("sent", traffic.sent), ("received", traffic.received))
        yield labelled(
            CounterMetricFamily,
            "l45_nco_control_bytes",
            "Bytes of frames on the control channel.",
            "direction",
            ways,
        )
