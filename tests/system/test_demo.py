"""`make demo`: it plays to its end, and nothing remains after success, failure or Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.traces import Traces

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    traces = Traces(tmp_path_factory.getbasetemp())
    yield
    assert traces.left() == set()


def start(output: Path, path: str | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "mininet_topos.demo", "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        start_new_session=True,
    )


def test_plays_to_its_end(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        output, _ = demo.communicate()
    assert demo.returncode == 0, output
    for words in (
        "only dig on h1 is tagged",
        "20 of 20 queries were tagged and answered",
        "10.10.0.2 (h2)",
        "its query was plain",
        "wireshark -X lua_script:",
    ):
        assert words in output
    assert (tmp_path / "capture-mb.pcapng").stat().st_size > 0
    assert "app_id" in (tmp_path / "dns_app_tag.lua").read_text()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Starting two sites", signal.SIGINT),
        ("Hosts whose agents", signal.SIGINT),
        ("nco apply", signal.SIGINT),
        ("kill -9", signal.SIGINT),
        ("nco revoke", signal.SIGTERM),
    ],
)
def test_interrupted_it_leaves_nothing(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout
        seen = ""
        while moment not in seen:
            line = demo.stdout.readline()
            assert line, seen
            seen += line
        # The whole foreground group gets a Ctrl-C, and impatient users press it twice.
        os.killpg(demo.pid, number)
        os.killpg(demo.pid, number)
        output = demo.stdout.read()
    assert demo.returncode == 130, output
    assert "Traceback" not in output


def test_a_failure_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "tshark").write_text("#!/bin/sh\necho no capture today >&2\nexit 3\n")
    (broken / "tshark").chmod(0o755)
    with start(tmp_path / "output", f"{broken}:{os.environ['PATH']}") as demo:
        output, _ = demo.communicate()
    assert demo.returncode == 1
    assert "demo: failed: tshark captures: ended" in output
    assert "no capture today" in output
    assert "Traceback" not in output
