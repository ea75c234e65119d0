"""The agent's metrics: what they say after what happened, in Prometheus's own format."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from host_agent.agent import Agent
from host_agent.metrics import AgentMetrics
from host_agent.store import Store
from host_agent.taps import Taps
from tests.unit.agent_kit import (
    MemoryTap,
    Network,
    background,
    customization,
    desired,
    eventually,
    scripted,
)
from tests.waiting import PATIENCE
from wire.messages import Hello, Need, Report


def values(text: str) -> dict[tuple[str, ...], float]:
    """Return each sample's value by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_agents_metrics_say_what_happened(tmp_path: Path) -> None:
    network, tap, metrics = Network(tmp_path), MemoryTap(), AgentMetrics()
    code = network.artifact()
    want = desired(3, customization(code))
    name = want.customizations[0].id

    async def play() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        store = Store(tmp_path / "state")
        async with scripted(network.nco) as nco, httpx.AsyncClient() as http:
            taps = Taps([tap], {"kmod": "no headers"})
            agent = Agent(nco.address, network.host, store, taps, metrics)

            async def read() -> dict[tuple[str, ...], float]:
                return values((await http.get(url, timeout=PATIENCE)).text)

            async with background(agent.run()), background(metrics.serve(listener)):
                session = await nco.session()
                await session.receive(Hello)
                session.greet()
                session.send(want)
                await session.receive(Need)
                session.send(code)
                while (await session.receive(Report)).generation != 3:
                    pass
                tap.sent = 5
                counted = ("l45_dca_messages_total", name, "dns_app_tag", "sent")
                found: dict[tuple[str, ...], float] = {}
                async with asyncio.timeout(PATIENCE):
                    while found.get(counted) != 5:
                        found = await read()
                        await asyncio.sleep(0.1)
                assert found["l45_dca_generation",] == 3
                assert found["l45_dca_customizations",] == 1
                assert found["l45_dca_connected",] == found["l45_dca_sessions_total",] == 1
                assert found["l45_dca_apply_seconds_count",] == 1
                assert (found["l45_dca_tap", "bpf"], found["l45_dca_tap", "kmod"]) == (1, 0)
                nco.kill()
                await eventually(lambda: metrics.connected._value.get() == 0)
        store.close()

    asyncio.run(play())
