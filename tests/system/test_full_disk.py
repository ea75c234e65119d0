"""A disk without room: what was acknowledged stays, what is asked for is refused with words.

The service, agents over TLS, and a state folder on a file system of a few MiB that the tests fill.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.system.disks import full, small_disk
from tests.unit.nco_kit import Network, Service, eventually, intent, network

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ROOM = 4096
"""KiB of the disk."""

MANY = 300
"""Intents; long before, a disk that is full has nowhere to write them, not even in old pages."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Network]:
    with small_disk(tmp_path / "state", ROOM), network(tmp_path, "h1", "dns") as made:
        yield made


def put(service: Service, number: int) -> httpx.Response:
    wanted = intent(f"tag-{number}", port=1000 + number)
    with service.client() as client:
        return client.put(f"/intents/tag-{number}", json=wanted)


def acknowledged_until_full(service: Service) -> set[str]:
    """Ask for more and more; return what was acknowledged before the first refusal."""
    known = set()
    for number in range(MANY):
        answer = put(service, number)
        if answer.status_code == 503:
            assert "full" in answer.json()["detail"], answer.text
            return known
        assert answer.status_code == 201, answer.text
        known.add(f"tag-{number}")
    raise AssertionError("the disk never was full")


def test_nothing_acknowledged_is_lost_and_it_goes_on_by_itself(made: Network) -> None:
    service = made.service
    assert put(service, MANY).status_code == 201
    eventually(made.is_settled, "the first one is active")
    before = service.sessions
    with full(service.state.path):
        known = {f"tag-{MANY}", *acknowledged_until_full(service)}
        assert service.intents == known
        assert put(service, MANY + 1).status_code == 503
        with service.client() as client:
            refused = client.delete(f"/intents/tag-{MANY}")
        assert refused.status_code == 503, "nothing that it cannot write down is done"
        status = service.get("/status")
        assert (status["hosts_connected"], status["intents"]) == (2, len(known))
    eventually(lambda: put(service, MANY + 1).status_code in (200, 201), "there is room again")
    known.add(f"tag-{MANY + 1}")
    assert service.intents == known
    eventually(made.is_settled, "all of them are active")
    assert service.sessions == before, "the agents noticed nothing"
    service.restart_after_kill()
    assert service.intents == known
    eventually(made.is_settled, "all is as it was")
    assert "Traceback" not in service.log.read_text()


def test_a_service_that_is_killed_on_a_full_disk_comes_back(made: Network) -> None:
    service = made.service
    with full(service.state.path):
        known = acknowledged_until_full(service)
        service.stop(signal.SIGKILL)
        ended = start_without_room(service)
        assert ended in (None, 1), "it may run, or may be started again; nobody has to mend it"
    if ended is not None:
        service.start()
    assert service.intents == known
    eventually(made.is_settled, "all is as it was")
    assert "Traceback" not in service.log.read_text()


def test_what_was_built_without_room_is_built_again(made: Network) -> None:
    service = made.service
    artifacts = service.state.artifacts
    with small_disk(artifacts, 64):
        with full(artifacts):
            assert put(service, 0).status_code == 201
            eventually(lambda: "cannot be kept yet" in service.log.read_text(), "it is tried")
            assert service.get("/intents/tag-0")["phase"] == "building"
        eventually(made.is_settled, "it is active")
        with service.client() as client:
            client.delete("/intents/tag-0").raise_for_status()
        eventually(lambda: not service.intents, "it is gone")


def start_without_room(service: Service) -> int | None:
    """Start the service; return with which status it ended, or None where it runs."""
    command = [sys.executable, "-m", "controller.service", "--state", str(service.state.path)]
    with service.log.open("ab") as log:
        service.process = subprocess.Popen([*command, *service.arguments], stderr=log)
    eventually(lambda: service.process and (service.process.poll() or answers(service)), "either")
    return service.process.poll()


def answers(service: Service) -> bool:
    try:
        return bool(service.get("/status"))
    except httpx.HTTPError:
        return False
