"""Peers of the control channel that send what they like, too much, or nothing at all."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from controller.control import ControlLimits
from tests.unit.control_kit import DIGEST, LIMITS, Peer, World, in_world
from wire.frames import MAX_FRAME, encode
from wire.messages import Need, dump


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "are allowed"),
        (struct.pack("!I", MAX_FRAME + 1), "are allowed"),
        (struct.pack("!I", 5000) + bytes(5000), "at most 4096"),
        (struct.pack("!I", 1) + b"\xc1", "not msgpack"),
        (encode([1, 2]), "not a map"),
        (encode({"type": "hello", "host": 5}), "bad message"),
        (encode({"type": "report", "generation": 1}), "report before hello"),
        (struct.pack("!I", 300) + b"\x91" * 300, "not msgpack"),
    ],
)
def test_bad_bytes_end_the_connection_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, words: str
) -> None:
    async def test(world: World) -> None:
        steady = await world.agent("steady")
        peer = await world.peer()
        peer.writer.write(content)
        assert await peer.ended()
        steady.send({"type": "report", "generation": 9})
        await world.until("report steady 9")
        await world.still_serves()

    in_world(tmp_path, test)
    assert words in caplog.text


def test_bytes_that_are_not_tls_end_the_connection_only(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        peer = await Peer.open_plain(world.port)
        peer.writer.write(b"\x00" * 1000)
        assert await peer.ended()
        await world.still_serves()

    in_world(tmp_path, test)


def test_asking_in_vain_again_and_again_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        for _ in range(200):
            agent.send(dump(Need(digests=["1" * 64])))
        agent.send({"type": "report", "generation": 1})
        await world.until("report h1 1")

    in_world(tmp_path, test)
    assert 1 <= caplog.text.count("needs artifacts") <= 100


def test_an_agent_that_falls_silent_is_let_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        assert await agent.ended()
        await world.until("disconnected h1")

    in_world(tmp_path, test, replace(LIMITS, heartbeat=0.1))
    assert "silent for" in caplog.text


def test_who_says_no_hello_is_let_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        mute = await world.peer("mute")
        assert await mute.ended()

    in_world(tmp_path, test, replace(LIMITS, hello_time=0.2))
    assert "no hello within 0.2 s" in caplog.text


def test_who_makes_no_handshake_is_let_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        plain = await Peer.open_plain(world.port)
        assert await plain.ended()

    in_world(tmp_path, test, replace(LIMITS, handshake_time=0.2))
    assert "handshake failed" in caplog.text


def test_strangers_do_not_pile_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        strangers = [await Peer.open_plain(world.port) for _ in range(LIMITS.unknown_peers + 3)]
        assert await strangers[-1].ended()
        await asyncio.gather(*(stranger.ended() for stranger in strangers))
        await world.still_serves()

    in_world(tmp_path, test, ControlLimits(handshake_time=2, unknown_peers=LIMITS.unknown_peers))
    assert "too many unknown peers" in caplog.text


def test_an_agent_that_never_reads_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        agent.writer.transport.pause_reading()  # type: ignore[attr-defined] # a TLS transport
        need = encode(dump(Need(digests=[DIGEST])))
        for _ in range(64):
            agent.writer.write(need)
        await world.until("disconnected h1")
        await world.still_serves()

    in_world(tmp_path, test, replace(LIMITS, stall_time=0.5))
    assert "does not read: nothing taken for 0.5 s" in caplog.text


def test_an_agent_that_floods_is_told_and_cut_off(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        steady = await world.agent("steady")
        agent = await world.agent()
        for generation in range(1000):
            agent.send({"type": "report", "generation": generation})
        refused = await agent.next()
        assert refused is not None
        assert "more than 20 things a second" in refused["reason"]
        assert await agent.ended()
        assert len(world.listener.said) < 300
        steady.send({"type": "report", "generation": 9})
        await world.until("report steady 9")

    in_world(tmp_path, test)


def test_a_host_that_only_opens_connections_keeps_no_other_one_out(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        strangers = [await Peer.open_plain(world.port) for _ in range(LIMITS.unknown_peers)]
        other = await Peer.open(world.context("h1"), world.port, source="127.0.0.2")
        other.hello("h1")
        assert (await other.next() or {})["type"] == "welcome"
        assert await strangers[0].ended()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(strangers[1].reader.read(1), 0.1)

    in_world(tmp_path, test)
