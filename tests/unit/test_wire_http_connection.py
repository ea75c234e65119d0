"""HTTP clients that take their time, at the agent's metrics; the NCO's connections are the same."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Coroutine
from typing import Any

import pytest
import uvicorn

from host_agent.metrics import AgentMetrics
from tests.waiting import PATIENCE, LoopClock
from wire import http_connection

WHOLE = b"GET /metrics HTTP/1.1\r\nHost: dca\r\n\r\n"


def beside_metrics(play: Coroutine[Any, Any, None], listener: socket.socket) -> None:
    async def both() -> None:
        server = asyncio.create_task(AgentMetrics().serve(listener))
        try:
            async with asyncio.timeout(PATIENCE):
                await play
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)

    asyncio.run(both())


@pytest.mark.parametrize(
    "said",
    [
        b"",
        WHOLE[:-2],
        b"POST /metrics HTTP/1.1\r\nHost: dca\r\nContent-Length: 9\r\n\r\n",
        WHOLE + b"G",
    ],
)
def test_who_does_not_say_to_the_end_what_it_wants_is_cut_off(said: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    async def play() -> None:
        clock = LoopClock()
        reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        writer.write(said)
        ending = asyncio.create_task(reader.read())
        while not ending.done():
            clock.forward(1)
            await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            await ending
        writer.close()

    beside_metrics(play(), listener)


def test_who_asks_again_in_time_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two requests the limit of one does not count; that of uvicorn is put off here."""
    patient = functools.partial(uvicorn.Config, timeout_keep_alive=3600)
    monkeypatch.setattr(uvicorn, "Config", patient)
    listener = socket.create_server(("127.0.0.1", 0))

    async def play() -> None:
        clock = LoopClock()
        reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        for _ in range(2):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"\r\n0\r\n\r\n")  # the last of its chunks
            clock.forward(http_connection.REQUEST_SECONDS + 1)
            await asyncio.sleep(0.01)
        writer.close()

    beside_metrics(play(), listener)


def test_connections_without_end_are_not_kept() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    async def play() -> None:
        address = listener.getsockname()[:2]
        opened = [await asyncio.open_connection(*address) for _ in range(64)]
        reading = [asyncio.create_task(reader.read(1)) for reader, _ in opened]
        done: set[Any] = set()
        while len(done) < 40:
            done, _ = await asyncio.wait(reading, timeout=0.1)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for _, writer in opened:
            writer.close()

    beside_metrics(play(), listener)
