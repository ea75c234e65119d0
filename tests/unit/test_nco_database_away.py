"""A service whose database is locked, hangs or dies under load: nothing acknowledged is lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests import postgres
from tests.unit.databases import needs_postgresql
from tests.unit.nco_kit import Network, Service, eventually, intent, network

pytestmark = pytest.mark.timeout(240)


def put(service: Service, name: str, port: int = 53) -> httpx.Response:
    with service.client() as client:
        return client.put(f"/intents/{name}", json=intent(name, port=port))


def delete(service: Service, name: str) -> httpx.Response:
    with service.client() as client:
        return client.delete(f"/intents/{name}")


def test_a_file_that_another_process_has_locked(tmp_path: Path) -> None:
    with network(tmp_path, "h1", "dns") as made, ThreadPoolExecutor() as pool:
        service = made.service
        assert put(service, "before").status_code == 201
        eventually(made.is_settled, "it is active")
        sessions = service.sessions
        with closing(sqlite3.connect(service.state.database)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = pool.submit(put, service, "locked", 54)
            seen = 0
            while not refused.done():
                assert service.get("/status")["hosts_connected"] == 2
                assert service.intents == {"before"}
                seen += 1
            assert seen > 1, "it serves others while one waits"
            assert refused.result().status_code == 503
            assert "locked" in refused.result().json()["detail"]
        eventually(lambda: put(service, "after", 55).status_code == 201, "unlocked")
        eventually(made.is_settled, "both are active")
        assert service.intents == {"before", "after"}
        assert service.sessions == sessions, "the agents noticed nothing"
        assert "Traceback" not in service.log.read_text()


class Load:
    """Asks for one change after the other, and keeps what was acknowledged."""

    def __init__(self, service: Service) -> None:
        self.there: dict[str, bool | None] = {}
        """Whether an intent is there by the last answer; None: that was no good news."""
        self.answers = 0
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.02):
            number += 1
            name = f"tag-{number % 20}"
            goes = self.there.get(name) is True
            answer = (
                delete(self._service, name) if goes else put(self._service, name, 1000 + number)
            )
            if answer.is_success:
                self.there[name] = not goes
            elif answer.status_code == 503:
                self.there[name] = None
            else:
                assert answer.status_code in (404, 409), answer.text  # on its way up or down
            self.answers += 1


@pytest.fixture
def away(tmp_path: Path, postgresql: postgres.Server) -> Iterator[Network]:
    with network(tmp_path, "h1", "dns", settings=f'database = "{postgresql.url()}"\n') as made:
        yield made


@needs_postgresql
def test_a_server_that_hangs_and_dies_under_load(
    away: Network, postgresql: postgres.Server
) -> None:
    service = away.service
    sessions = service.sessions
    with Load(service) as load:

        def some_more() -> None:
            seen = load.answers
            eventually(lambda: load.answers > seen + 5, "changes are answered")

        for _ in range(3):
            some_more()
            postgresql.kill()
            assert service.get("/status")["hosts_connected"] == 2
            eventually(lambda: put(service, "away", 99).status_code == 503, "it says so")
            postgresql.start()
            some_more()
            with postgresql.stopped():
                time.sleep(1)
                assert service.get("/status")["hosts_connected"] == 2
    eventually(away.is_settled, "agents have what intents want")
    there = service.intents
    for name, is_there in load.there.items():
        assert is_there is None or (name in there) == is_there, name
    assert service.sessions == sessions, "the agents noticed nothing"
    service.restart_after_kill()
    eventually(away.is_settled, "all is as it was")
    assert service.intents == there
    assert "Traceback" not in service.log.read_text()
