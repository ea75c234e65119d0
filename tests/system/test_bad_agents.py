"""Agents that flood and agents that never read: others are served, and memory is bounded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.unit.nco_kit import (
    Network,
    Service,
    credentials,
    eventually,
    intent,
    make_module,
    network,
)
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

MUTE, FLOODS = ("mute-1", "mute-2", "mute-3"), ("floods-1", "floods-2")
GROWTH = 100 * 1024
"""KiB that the service may grow by; one agent could have it read 200 KiB as often as it likes."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Network]:
    with network(tmp_path, "h1", "dns") as made:
        # Much larger than what the kernel keeps for who does not read.
        make_module(tmp_path / "modules", "large", "int large[400000] = {1};\n")
        yield made


@contextmanager
def bad(service: Service, host: str) -> Iterator[None]:
    who = credentials(service.state, host)
    kind = host.partition("-")[0]
    command = [sys.executable, "-m", "tests.system.bad_agent", kind, host, str(who.folder)]
    with subprocess.Popen([*command, str(service.port)]) as process:
        try:
            yield
        finally:
            process.kill()


def size(service: Service) -> int:
    """Return the KiB of memory that the service has."""
    assert service.process
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0])


def test_bad_agents_are_cut_off_and_hold_nobody_up(made: Network) -> None:
    service = made.service
    with service.client() as client, ExitStack() as stack:
        client.put("/intents/tag", json=intent()).raise_for_status()
        eventually(made.is_settled, "the good ones are served")
        before = size(service)
        for host in (*MUTE, *FLOODS):
            stack.enter_context(bad(service, host))
        known = {*MUTE, *FLOODS, "h1", "dns"}
        eventually(lambda: known <= {h["name"] for h in service.get("/hosts")}, "all were there")
        theirs = intent("large", module="large", client=[{"host": host} for host in MUTE], port=5)
        client.put("/intents/large", json=theirs).raise_for_status()

        def cut_off() -> bool:
            assert size(service) < before + GROWTH
            log = service.log.read_text()
            return all(f"peer={host}@" in log for host in MUTE) and "does not read" in log

        eventually(cut_off, "who never reads is cut off")
        assert "says more than 20 things a second" in service.log.read_text()
        client.delete("/intents/tag").raise_for_status()
        gone = lambda: "tag" not in service.intents  # noqa: E731
        eventually(gone, "the good ones are served meanwhile")
    assert not made.agents["h1"].applied
    eventually(lambda: size(service) < before + GROWTH, "no memory is kept")
    eventually(lambda: service.get("/status")["hosts_connected"] == 2, f"within {PATIENCE} s")
    assert "Traceback" not in service.log.read_text()
