"""The search for what tests leave behind finds what is this run's, and nothing of others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mininet_topos.processes import wait_until
from tests.system import traces
from tests.system.traces import MARK, Traces

pytestmark = pytest.mark.system

ALIKE = ["bash", "-c", "exec -a dnsmasq sleep 1000"]


@pytest.fixture
def before(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Traces]:
    monkeypatch.setattr(traces, "GONE_SECONDS", 0.0)
    made = Traces(tmp_path_factory.getbasetemp())
    yield made
    assert made.left() == set()


@pytest.mark.parametrize("ours", [True, False])
def test_a_process_is_of_who_started_it(before: Traces, ours: bool) -> None:
    name, _, _ = MARK.partition("=")
    environment = {k: v for k, v in os.environ.items() if ours or k != name}
    with subprocess.Popen(ALIKE, env=environment) as child:
        line = Path(f"/proc/{child.pid}/cmdline")
        wait_until(lambda: line.read_bytes().startswith(b"dnsmasq"), "it has its name")
        left = before.left()
        child.kill()
    assert left == ({f"process {child.pid}: dnsmasq 1000"} if ours else set())


def test_a_folder_is_of_who_made_it_as_long_as_he_lives(before: Traces) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    folders = {pid: Path(f"/run/l45-testbed-{pid}-x") for pid in (1, gone.pid, os.getpid())}
    for folder in folders.values():
        folder.mkdir()
    left = before.left()
    for folder in folders.values():
        folder.rmdir()
    assert left == {f"file {folders[pid]}" for pid in (gone.pid, os.getpid())}


def test_a_namespace_is_of_who_made_it(before: Traces) -> None:
    names = {pid: f"tapx-{pid}-c" for pid in (1, os.getpid())}
    for name in names.values():
        subprocess.run(["ip", "netns", "add", name], check=True)
    left = before.left()
    for name in names.values():
        subprocess.run(["ip", "netns", "del", name], check=True)
    assert left == {f"namespace {names[os.getpid()]}"}
