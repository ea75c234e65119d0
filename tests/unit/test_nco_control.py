"""The control channel's sessions: hello, reports, artifacts, and the newest connection."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control_kit import DIGEST, PATIENCE, World, in_world
from wire.messages import Desired, Need, dump


def test_an_agent_is_welcomed_and_heard(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        agent.send({"type": "from the future", "x": 1})
        agent.send({"type": "report", "generation": 3, "new field": 1})
        await world.until("report h1 3")
        agent.send(dump(Need(digests=[DIGEST, "1" * 64])))
        artifact = await agent.next()
        assert artifact is not None
        assert artifact["type"] == "artifact"
        agent.writer.close()
        await world.until("disconnected h1")

    in_world(tmp_path, test)


def test_a_connection_that_has_ended_takes_no_memory(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        link = weakref.ref(world.listener.links.pop("h1"))
        agent.writer.close()
        await world.until("disconnected h1")
        deadline = time.monotonic() + PATIENCE
        while link() is not None:
            assert time.monotonic() < deadline, "it is still there"
            await asyncio.sleep(0.02)

    gc.disable()  # the service looks seldom, as its objects are many
    try:
        in_world(tmp_path, test)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"versions": [99]}, "speaks version 1"), ({"generation": 2**62 + 1}, "not believable")],
)
def test_what_cannot_be_served_is_told_why(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    async def test(world: World) -> None:
        peer = await world.peer()
        peer.hello("h1", **fields)
        refused = await peer.next()
        assert refused is not None
        assert words in refused["reason"]
        assert await peer.ended()

    in_world(tmp_path, test)


def test_the_newest_connection_of_a_host_wins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        first = await world.agent()
        link = world.listener.links["h1"]
        second = await world.agent()
        assert world.listener.links["h1"] is not link
        link.refuse("another agent connected as 'h1'")  # as the orchestrator does
        refused = await first.next()
        assert refused == {"type": "refused", "reason": "another agent connected as 'h1'"}
        assert await first.ended()
        second.send({"type": "report", "generation": 4})
        await world.until("report h1 4")

    in_world(tmp_path, test)
    assert "refused: another agent connected as 'h1'" in caplog.text


def test_a_second_hello_ends_the_connection(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        agent.hello("h1")
        assert await agent.ended()
        await world.until("disconnected h1")

    in_world(tmp_path, test)


def test_a_generation_that_leaves_no_room_for_ours_ends_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        for where in ("generation", "refused"):
            agent = await world.agent()
            agent.send({"type": "report", "generation": 1, where: 2**62 + 1})
            assert await agent.ended()
        assert not any(said.startswith("report") for said in world.listener.said)

    in_world(tmp_path, test)
    assert caplog.text.count("not believable") == 2


def test_messages_wait_for_the_end_of_an_artifact_that_is_on_its_way(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        agent.writer.transport.pause_reading()  # type: ignore[attr-defined] # a TLS transport
        agent.send(dump(Need(digests=[DIGEST])))
        agent.send({"type": "report", "generation": 1})
        await world.until("report h1 1")
        await asyncio.sleep(0.1)  # the artifact fills what there is of buffers
        for generation in range(20):
            world.listener.links["h1"].send(Desired(generation=generation, customizations=[]))
        agent.writer.transport.resume_reading()  # type: ignore[attr-defined]
        artifact = await agent.next()
        assert artifact is not None
        assert artifact["data"] == bytes(1 << 20)
        assert [(await agent.next() or {})["generation"] for _ in range(20)] == list(range(20))

    in_world(tmp_path, test)
