"""The testbed for the tests of the whole chain, and what is shown when one fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mininet_topos.testbed import Testbed

LOG_LINES = 25


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Two sites with everything running; one for the tests of a module."""
    with Testbed(tmp_path_factory.mktemp("testbed")) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the logs of the testbed to the report of a test that failed on it."""
    report = yield
    running = getattr(item, "funcargs", {}).get("testbed")
    if report.failed and running is not None:
        for log in sorted(Path(running.logs).glob("*.log")):
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            report.sections.append((f"{log.name}, last lines", "\n".join(tail)))
    return report
