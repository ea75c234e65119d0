"""The control channel over real TLS on the loopback interface, for peers of all kinds."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from controller import ca
from controller.config import NcoConfig, StateFolder
from controller.control import ControlLimits, ControlServer
from controller.orchestrator import Link
from tests.waiting import PATIENCE
from wire.artifact import Artifact
from wire.frames import FrameReader, encode
from wire.identity import NCO_NAME, Credentials, PeerCertificate
from wire.messages import ArtifactData, ChallengeAnswer, Hello, Holds, Renewed, Report, dump

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
        self.held: list[Holds] = []

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

    async def told(self, host: str, link: Link, holds: Holds) -> None:
        assert link in self.links
        self.held.append(holds)


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
                data = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
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
        deadline = time.monotonic() + PATIENCE
        while said not in self.listener.said:
            assert time.monotonic() < deadline, f"{said!r} not among {self.listener.said}"
            await asyncio.sleep(0.02)


def in_world(
    tmp_path: Path, test: Callable[[World], Awaitable[None]], limits: ControlLimits = LIMITS
) -> None:
    async def run() -> None:
        state = StateFolder(tmp_path / "state")
        ca.initialise(state, NcoConfig(control="127.0.0.1:4545"))
        listener, gate = Listener(), Gate()
        context = state.credentials.server_context()
        server = ControlServer(listener, gate, lambda: context, limits)
        _, port = server.start("127.0.0.1", 0)
        task = asyncio.create_task(server.run())
        try:
            await test(World(state, listener, gate, server, port))
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    uvloop.run(run())  # as the service does
