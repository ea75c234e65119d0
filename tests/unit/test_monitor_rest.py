"""REST's events over a real socket, with readers that do not behave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Scope

from controller.access import Access, Caller
from controller.cib import Cib
from controller.errors import Refusal
from controller.events import BEHIND, LISTENERS, SHARE
from controller.metrics import MonitorCollector, NcoMetrics
from controller.monitor_kinds import Kind
from controller.monitor_rest import make_router
from controller.names import Names
from controller.rest import PlainText, RestServer, _refused
from controller.tokens import Role
from tests.unit.monitor_kit import World, world
from tests.waiting import PATIENCE, LoopClock
from wire import http_connection

EVENTS = 4 * BEHIND
REQUEST = b"GET /events HTTP/1.1\r\nHost: nco\r\n\r\n"


def caller(scope: Scope) -> Caller:
    """Believe what a request says of who makes it."""
    said = dict(scope["headers"]).get(b"x-name", b"one").decode()
    return Caller(said, Role.ADMIN, "here")


@asynccontextmanager
async def served(folder: Path, database: str | None = None) -> AsyncIterator[tuple[World, Path]]:
    async with world(database or folder) as there:
        metrics = NcoMetrics()
        metrics.read_from(MonitorCollector(there.monitor, there.database))
        names = Names(Cib(), there.database)
        app = FastAPI()
        app.add_middleware(PlainText)
        app.add_exception_handler(Refusal, _refused)
        app.include_router(make_router(there.monitor, there.database, metrics.registry, names))
        path = folder / "rest.sock"
        server = asyncio.create_task(RestServer(Access(app, caller)).run(path))
        await until(path.exists)
        try:
            yield there, path
        finally:
            server.cancel()
            with suppress(asyncio.CancelledError):
                await server


async def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_reader_that_never_reads_is_given_up_and_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        clock = LoopClock()
        async with served(tmp_path) as (there, path):
            reader, writer = await asyncio.open_unix_connection(path, limit=1)
            writer.write(REQUEST)
            await until(lambda: there.events.listeners == 1)
            for number in range(EVENTS):
                there.events.add(Kind.HOST, f"{number} " + "x" * 900)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await until(lambda: there.events.lost_listeners == 1)
            assert there.events.listeners == 0
            assert "is cut off" not in caplog.text
            clock.forward(http_connection.STALL_SECONDS)
            await until(lambda: "is cut off" in caplog.text)  # not earlier: it would be read again
            async with asyncio.timeout(PATIENCE):
                got = 0
                with suppress(ConnectionError):
                    while data := await reader.read(1 << 20):
                        got += len(data)
            assert got < 900 * EVENTS, "the rest was thrown away"
            writer.close()
            assert there.monitor.recorder.waiting <= EVENTS

    asyncio.run(play())


def test_readers_are_limited_and_their_places_come_free(tmp_path: Path) -> None:
    async def play() -> None:
        async with served(tmp_path) as (there, path):
            writers = []
            for number in range(LISTENERS):
                _, writer = await asyncio.open_unix_connection(path)
                name = f"Host: nco\r\nX-Name: {number // SHARE}".encode()
                writer.write(REQUEST.replace(b"Host: nco", name))
                writers.append(writer)
                await until(lambda number=number: there.events.listeners == number + 1)
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, base_url="http://nco") as http:
                for name, words in (("0", "0 listens to events 8 times"), ("x", "32 listen to")):
                    answer = await http.get("/events", timeout=PATIENCE, headers={"X-Name": name})
                    assert answer.status_code == 409
                    assert words in answer.json()["detail"]
                for writer in writers:
                    writer.close()
                await until(lambda: there.events.listeners == 0)
                assert (await http.get("/metrics", timeout=PATIENCE)).status_code == 200

    asyncio.run(play())


def test_a_name_that_nobody_has_or_had_is_refused(tmp_path: Path) -> None:
    unknown = {
        "/flows?host=none": "there is no host 'none'",
        "/flows?intent=none": "there is no intent 'none'",
        "/counters?intent=none": "there is no intent 'none'",
        "/events/log?host=none": "there is no host 'none'",
        "/intents/none/history": "there is no intent 'none'",
    }

    async def play() -> None:
        async with served(tmp_path) as (there, path):
            there.events.add(Kind.INTENT, "gone", intent="old", host="h9")
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, base_url="http://nco") as http:
                assert await there.recorder.written(PATIENCE)
                for query, words in unknown.items():
                    answer = await http.get(query, timeout=PATIENCE)
                    assert answer.status_code == 404
                    assert words in answer.json()["detail"]
                for query in ("/flows?host=h9&intent=old", "/counters?intent=old"):
                    assert (await http.get(query, timeout=PATIENCE)).json() == []

    asyncio.run(play())


@pytest.mark.parametrize(
    "path",
    [
        "/intents/a%00b/history",
        "/flows?host=%00",
        "/flows?process=a%0Ab",
        "/flows?%00=1",
        "/counters?intent=%1B",
        "/events/log?host=a%00",
        "/events?intent=%00",
        "/alerts/%00",
    ],
)
def test_control_characters_are_refused_by_either_database(
    tmp_path: Path, database_url: str, path: str
) -> None:
    async def play() -> None:
        async with served(tmp_path, database_url) as (_, socket):
            transport = httpx.AsyncHTTPTransport(uds=str(socket))
            async with httpx.AsyncClient(transport=transport, base_url="http://nco") as http:
                answer = await http.get(path, timeout=PATIENCE)
                assert answer.status_code == 400
                assert "control characters" in answer.json()["detail"]

    asyncio.run(play())


@pytest.mark.parametrize(
    "path",
    [
        "/flows?limit=0",
        "/flows?since=-1",
        "/counters",
        "/events/log?kind=nothing",
        "/events/log?limit=99999999",
        "/alerts?cleared=-1",
        "/events/log?since=1e300",
        "/flows?since=inf",
        "/flows?since=nan",
        "/counters?intent=a&since=1e12",
    ],
)
def test_what_is_out_of_bounds_is_refused(tmp_path: Path, path: str) -> None:
    async def play() -> None:
        async with served(tmp_path) as (_, socket):
            transport = httpx.AsyncHTTPTransport(uds=str(socket))
            async with httpx.AsyncClient(transport=transport, base_url="http://nco") as http:
                assert (await http.get(path, timeout=PATIENCE)).status_code == 422

    asyncio.run(play())
