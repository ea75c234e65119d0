"""The agent's metrics for Prometheus; docs/monitoring.md says what each one means."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_asgi_app,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wire.messages import MESSAGE_COUNTERS, Status

log = logging.getLogger(__name__)


class AgentMetrics:
    """What the agent counts, and what it saw last; served by `serve`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Counter("l45_dca_sessions", "Sessions with the NCO.", registry=registry)
        self.connected = Gauge(
            "l45_dca_connected", "Whether there is a session (1) or not (0).", registry=registry
        )
        self.generation = Gauge(
            "l45_dca_generation", "The generation in force; 0: none.", registry=registry
        )
        self.flows = Gauge("l45_dca_flows", "Sockets that have customizations.", registry=registry)
        self.applied = Histogram(
            "l45_dca_apply_seconds",
            "Time that the taps took to make a set the one in force.",
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.refused = Counter(
            "l45_dca_refusals", "Sets that the taps could not make so.", registry=registry
        )
        self._taps = Gauge("l45_dca_tap", "Taps: whether they work.", ["tap"], registry=registry)
        self._running = _Running()
        registry.register(self._running)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def session(self, *, there: bool) -> None:
        """Note that a session has begun or ended."""
        self.connected.set(there)
        if there:
            self.sessions.inc()

    def taps(self, working: Sequence[str], failing: Sequence[str]) -> None:
        """Note which taps work here."""
        for name in working:
            self._taps.labels(name).set(1)
        for name in failing:
            self._taps.labels(name).set(0)

    def observed(self, running: Sequence[Status]) -> None:
        """Note what runs in the kernel."""
        self._running.statuses = tuple(running)

    async def serve(self, listener: socket.socket) -> None:
        """Answer every request with the metrics, until cancelled."""
        # Imported here: only an agent that is asked for metrics needs a web server.
        import uvicorn  # noqa: PLC0415

        from wire.http_connection import HttpConnection  # noqa: PLC0415

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # signals are the agent's

        config = uvicorn.Config(
            make_asgi_app(self.registry),
            http=HttpConnection,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=8,
        )
        with listener:
            log.info("metrics on http://%s:%s/metrics", *listener.getsockname()[:2])
            await Server(config).serve(sockets=[listener])


class _Running(Collector):
    """The counters of what runs; there are few customizations, so each has its own."""

    def __init__(self) -> None:
        self.statuses: tuple[Status, ...] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they were seen last."""
        labels = ["customization", "module"]
        messages = CounterMetricFamily(
            "l45_dca_messages",
            "Messages, by what a customization did with them.",
            labels=[*labels, "what"],
        )
        size = CounterMetricFamily(
            "l45_dca_bytes",
            "Bytes of applications in customized messages.",
            labels=[*labels, "direction"],
        )
        for one in self.statuses:
            counted = one.counters.model_dump()
            for what in MESSAGE_COUNTERS:
                messages.add_metric([one.id, one.module, what], counted[what])
            for direction in ("sent", "received"):
                size.add_metric([one.id, one.module, direction], counted[f"{direction}_bytes"])
        number = len(self.statuses)
        yield GaugeMetricFamily("l45_dca_customizations", "Customizations.", value=number)
        yield from (messages, size)
