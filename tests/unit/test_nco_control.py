"""The control channel over real TLS on the loopback interface, with peers of all kinds."""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from controller import ca
from controller.config import NcoConfig, StateFolder
from controller.control import ControlLimits, ControlServer
from controller.orchestrator import Link
from wire.artifact import Artifact
from wire.frames import MAX_FRAME, FrameReader, encode
from wire.identity import NCO_NAME, Credentials, PeerCertificate
from wire.messages import (
    ArtifactData,
    ChallengeAnswer,
    Desired,
    Hello,
    Need,
    Renew,
    Renewed,
    Report,
    dump,
)

LIMITS = ControlLimits(
    heartbeat=30,
    handshake_time=30,
    hello_time=30,
    unknown_peers=4,
    max_frame=4096,
    max_unsent=1 << 20,
    stall_time=30,
)
DIGEST = "0" * 64


@dataclass
class Listener:
    """What the server tells; hands out one artifact of a megabyte."""

    said: list[str] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)

    def connected(self, link: Link, hello: Hello) -> None:
        self.said.append(f"connected {hello.host}")
        self.links[hello.host] = link

    def disconnected(self, host: str, link: Link) -> None:
        self.said.append(f"disconnected {host}")

    def reported(self, host: str, link: Link, report: Report) -> None:
        self.said.append(f"report {host} {report.generation}")

    def artifact_for(self, host: str, digest: str) -> ArtifactData | None:
        if digest != DIGEST:
            return None
        return Artifact("idle", "1.0.0", "bpf", bytes(1 << 20)).message(bytes(64))


class Gate:
    """Who lets everyone in whose certificate has not expired, and is told of answers."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.seen_hosts: list[str] = []
        self.links: list[Link] = []
        self.answers: list[ChallengeAnswer] = []

    def refusal(self, certificate: PeerCertificate) -> str | None:
        if certificate.name in self.revoked:
            return f"{certificate.name} was revoked"
        return "it has expired" if certificate.expires < time.time() else None

    async def seen(self, certificate: PeerCertificate) -> None:
        self.seen_hosts.append(certificate.name)

    def arrived(self, host: str, link: Link) -> None:
        self.links.append(link)

    def left(self, host: str, link: Link) -> None:
        self.links.remove(link)

    async def renew(self, host: str, request: bytes) -> Renewed:
        return Renewed(error=f"{host} is known")

    def answered(self, host: str, answer: ChallengeAnswer) -> None:
        self.answers.append(answer)


class Peer:
    """One end of a TLS connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._values: list[dict[str, Any]] = []

    @classmethod
    async def open(cls, context: ssl.SSLContext, port: int, source: str = "127.0.0.1") -> Peer:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=NCO_NAME, local_addr=(source, 0)
        )
        return cls(reader, writer)

    @classmethod
    async def open_plain(cls, port: int) -> Peer:
        """Connect without TLS."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, value: Any) -> None:  # noqa: ANN401
        self.writer.write(encode(value))

    def hello(self, host: str, **fields: Any) -> None:  # noqa: ANN401
        message = dump(Hello(host=host, boot_id="b", kernel="k", targets=["bpf"]))
        self.send({**message, **fields})

    async def next(self) -> dict[str, Any] | None:
        """Return the next message, None at the connection's end."""
        while not self._values:
            try:
                data = await asyncio.wait_for(self.reader.read(65536), 10)
            except ConnectionError:
                return None
            if not data:
                return None
            self._values += self._frames.feed(data)
        return self._values.pop(0)

    async def ended(self) -> bool:
        """Whether the server closes, after at most what it still had to say."""
        while await self.next() is not None:
            pass
        return True


@dataclass
class World:
    """A server that runs, and credentials for peers."""

    state: StateFolder
    listener: Listener
    gate: Gate
    server: ControlServer
    port: int

    def context(self, host: str) -> ssl.SSLContext:
        folder = self.state.path.parent / host
        if not folder.exists():
            ca.issue_host(self.state, host, folder)
        return Credentials(folder).client_context()

    async def peer(self, host: str = "h1") -> Peer:
        return await Peer.open(self.context(host), self.port)

    async def agent(self, host: str = "h1") -> Peer:
        """Return a peer that has introduced itself."""
        peer = await self.peer(host)
        peer.hello(host)
        welcome = await peer.next()
        assert welcome is not None
        assert welcome["type"] == "welcome"
        return peer

    async def still_serves(self) -> None:
        """Fail unless a good agent is served now."""
        agent = await self.agent("good")
        agent.send({"type": "report", "generation": 7})
        await self.until("report good 7")
        agent.writer.close()
        await self.until("disconnected good")

    async def until(self, said: str) -> None:
        for _ in range(500):
            if said in self.listener.said:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{said!r} not among {self.listener.said}")


def in_world(
    tmp_path: Path, test: Callable[[World], Awaitable[None]], limits: ControlLimits = LIMITS
) -> None:
    async def run() -> None:
        state = StateFolder(tmp_path / "state")
        ca.initialise(state, NcoConfig(control="127.0.0.1:4545"))
        listener, gate = Listener(), Gate()
        server = ControlServer(listener, gate, state.credentials.server_context(), limits)
        _, port = server.start("127.0.0.1", 0)
        task = asyncio.create_task(server.run())
        try:
            await test(World(state, listener, gate, server, port))
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    uvloop.run(run())  # as the service does


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


def test_another_ca_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        other = StateFolder(tmp_path / "other")
        ca.initialise(other, NcoConfig(control="127.0.0.1:4545"))
        ca.issue_host(other, "h1", tmp_path / "foreign")
        context = Credentials(tmp_path / "foreign").client_context()
        context.load_verify_locations(world.state.credentials.ca)  # it trusts us, not we it
        with suppress(ssl.SSLError, ConnectionError):
            peer = await Peer.open(context, world.port)
            peer.hello("h1")
            assert await peer.ended()
        await world.still_serves()

    in_world(tmp_path, test)
    assert "certificate verify failed" in caplog.text.lower().replace("_", " ")


def test_no_certificate_is_refused(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        context = ssl.create_default_context(cafile=str(world.state.credentials.ca))
        with suppress(ssl.SSLError, ConnectionError):
            peer = await Peer.open(context, world.port)
            peer.hello("h1")
            assert await peer.ended()
        await world.still_serves()
        assert "connected h1" not in world.listener.said

    in_world(tmp_path, test)


def test_a_host_cannot_pass_for_the_nco(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ca.issue_host(world.state, NCO_NAME, tmp_path / "impostor")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        impostor = Credentials(tmp_path / "impostor")
        context.load_cert_chain(impostor.certificate, impostor.key)
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
                await Peer.open(world.context("h1"), port)

    in_world(tmp_path, test)


def test_a_host_cannot_introduce_itself_as_another(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        peer = await world.peer("h1")
        peer.hello("h2")
        refused = await peer.next()
        assert refused is not None
        assert refused["type"] == "refused"
        assert "'h1', not of 'h2'" in refused["reason"]
        assert await peer.ended()
        await world.still_serves()
        assert "connected h2" not in world.listener.said

    in_world(tmp_path, test)


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


def test_silent_peers_are_let_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def test(world: World) -> None:
        agent = await world.agent()
        no_hello = await world.peer("mute")
        no_handshake = await Peer.open_plain(world.port)
        await asyncio.gather(agent.ended(), no_hello.ended(), no_handshake.ended())
        await world.until("disconnected h1")

    short = ControlLimits(heartbeat=0.4, handshake_time=1, hello_time=1)
    in_world(tmp_path, test, short)
    assert "no hello within" in caplog.text
    assert "silent for" in caplog.text


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


def test_a_host_is_cut_off_at_once_and_not_let_in_again(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        world.gate.revoked.add("h1")
        assert world.server.cut("h1", "revoked")
        refused = await agent.next()
        assert refused is not None
        assert refused["reason"] == "revoked"
        assert await agent.ended()
        again = await world.peer()
        again.hello("h1")
        refused = await again.next()
        assert refused is not None
        assert refused["reason"] == "h1 was revoked"
        await world.still_serves()
        assert not world.server.cut("h1", "revoked"), "there is no session to cut"

    in_world(tmp_path, test)


def test_an_expired_certificate_is_refused_with_words(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ca.issue_host(world.state, "h1", tmp_path / "short", timedelta(seconds=-1))
        peer = await Peer.open(Credentials(tmp_path / "short").client_context(), world.port)
        peer.hello("h1")
        refused = await peer.next()
        assert refused is not None
        assert refused["reason"] == "it has expired"
        await world.still_serves()

    in_world(tmp_path, test)


def test_renewals_and_answers_reach_the_guard(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        agent = await world.agent()
        agent.send(dump(Renew(request=b"x")))
        renewed = await agent.next()
        assert renewed is not None
        assert renewed["error"] == "h1 is known"
        agent.send(dump(ChallengeAnswer(customization="0" * 32, nonce=b"n" * 16)))
        agent.send({"type": "report", "generation": 3})
        await world.until("report h1 3")
        assert [answer.nonce for answer in world.gate.answers] == [b"n" * 16]
        assert world.gate.seen_hosts == ["h1"]

    in_world(tmp_path, test)
