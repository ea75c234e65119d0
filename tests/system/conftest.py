"""The testbed for the tests of the whole chain, what is left behind, what a failure shows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mininet_topos.testbed import Testbed
from tests.system.traces import Traces

LOG_LINES = 25


@pytest.fixture(scope="session", autouse=True)
def machine_as_found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail at the end of the run if anything that the tests made is still there."""
    traces = Traces(tmp_path_factory.getbasetemp())
    yield
    left = traces.left()
    assert not left, "left behind:\n" + "\n".join(sorted(left))


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Two sites with everything running; one for the tests of a module."""
    with Testbed(tmp_path_factory.mktemp("testbed")) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add what the testbed and the kernel said to the report of a test that failed on it."""
    report = yield
    running = getattr(item, "funcargs", {}).get("testbed")
    if report.failed and running is not None:
        report.sections += _evidence(running.folder)
    return report


def _evidence(folder: Path) -> list[tuple[str, str]]:
    captures = "\n".join(str(path) for path in sorted(folder.glob("*.pcapng")))
    kernel = subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout
    return [
        *(
            (f"{log.name}, last lines", _tail(log.read_text(errors="replace")))
            for log in _logs(folder)
        ),
        ("captures", captures or "none"),
        ("dmesg, last lines", _tail(kernel)),
    ]


def _logs(folder: Path) -> list[Path]:
    return sorted((folder / "logs").glob("*.log"))


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES:])
