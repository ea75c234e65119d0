"""The control channel's server: agents over mutual TLS 1.3.

A connection is nobody's until its handshake is done, its certificate checked, and a `Hello` with
the name in that certificate was read; few such connections are allowed at a time, each for a
short time (`controller.strangers`). Artifacts go out in turns (`controller.pushes`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from controller.bucket import Bucket
from controller.channel import FrameChannel, Traffic
from controller.door import Address, Door, HandshakeError, hand_over
from controller.orchestrator import Link
from controller.pushes import Pushes
from wire.frames import encode
from wire.identity import PeerCertificate
from wire.messages import (
    FROM_AGENT,
    PROTOCOL_VERSION,
    AgentMessage,
    ArtifactData,
    ChallengeAnswer,
    Flows,
    Hello,
    Holds,
    MessageError,
    Need,
    Refused,
    Renew,
    Renewed,
    Report,
    Welcome,
    dump,
    parse,
)

log = logging.getLogger(__name__)

BROKEN_OFF = (
    "the peer broke it off: it does not take this NCO's certificate; "
    "does it have credentials of this NCO (`nco host token`, `nco host add`)?"
)

HIGHEST_GENERATION = 2**62
"""A host that claims more is not believed: its numbers must leave room for ours."""

BACKLOG = 4096
"""Connections that the kernel keeps while we are busy; it allows so many by default."""

FRAMES_KEPT = 16
"""Artifacts whose frames are kept for the next agent."""

CHECKED_AT_ONCE = 500
"""Connections that are looked at before others get their turn."""

COMPLAIN_EVERY = 5.0
"""Seconds between log lines about what one agent asks for in vain; it may ask without end."""


class Agents(Protocol):
    """Who is told what agents say: the orchestrator, and the monitor before it."""

    def connected(self, link: Link, hello: Hello) -> None:
        """Take note of an agent that has introduced itself."""

    def disconnected(self, host: str, link: Link) -> None:
        """Take note that a connection has ended."""

    def reported(self, host: str, link: Link, report: Report) -> None:
        """Take note of a report."""

    def flows_reported(self, host: str, link: Link, flows: Flows) -> None:
        """Take note of a host's flows."""

    def artifact_for(self, host: str, digest: str) -> ArtifactData | None:
        """Return an artifact that this host may have."""


class Guard(Protocol):
    """Who decides whose certificate is good, and what answers to challenges prove."""

    def refusal(self, certificate: PeerCertificate) -> str | None:
        """Return why a certificate, of our CA's without doubt, is not accepted now, or None."""

    async def seen(self, certificate: PeerCertificate) -> None:
        """Take note of a certificate with which a host was let in."""

    async def renew(self, host: str, request: bytes) -> Renewed:
        """Answer a request for a new certificate."""

    def arrived(self, host: str, link: Link) -> None:
        """Take note of the connection of a host that was let in."""

    def left(self, host: str, link: Link) -> None:
        """Take note that this connection has ended."""

    def answered(self, host: str, answer: ChallengeAnswer) -> None:
        """Take note of what a host says to a challenge."""

    async def told(self, host: str, link: Link, holds: Holds) -> None:
        """Take note of what credentials a host says, on this connection, that it has."""


@dataclass(frozen=True)
class ControlLimits:
    """What the server grants a peer; sizes in bytes, times in seconds."""

    heartbeat: float = 5.0
    handshake_time: float = 5.0
    hello_time: float = 5.0
    unknown_peers: int = 256
    """Connections that have not introduced themselves yet."""
    max_frame: int = 256 * 1024
    max_unsent: int = 16 * 1024 * 1024
    stall_time: float = 20.0
    messages_per_second: float = 20.0
    message_burst: float = 256.0
    """What an agent may say; far more than one has to."""

    @property
    def silence(self) -> float:
        """After how long without a message an agent counts as away."""
        return 3 * self.heartbeat


class ArtifactFrames:
    """Each artifact as one frame, encoded once for all agents."""

    def __init__(self) -> None:
        self._frames: dict[str, tuple[ArtifactData, bytes]] = {}
        """The longest kept first."""

    def frame(self, artifact: ArtifactData) -> bytes:
        """Return the frame that carries this very message."""
        kept = self._frames.get(artifact.digest)
        if kept is not None and kept[0] is artifact:
            return kept[1]
        if len(self._frames) >= FRAMES_KEPT:
            del self._frames[next(iter(self._frames))]
        frame = encode(dump(artifact))
        self._frames[artifact.digest] = (artifact, frame)
        return frame


class AgentConnection(FrameChannel):
    """One agent, from its handshake to its end."""

    traffic: ClassVar[Traffic] = Traffic()

    def __init__(
        self,
        agents: Agents,
        guard: Guard,
        limits: ControlLimits,
        pushes: Pushes,
        frames: ArtifactFrames,
    ) -> None:
        super().__init__(
            max_frame=limits.max_frame,
            max_unsent=limits.max_unsent,
            stall_time=limits.stall_time,
            pushes=pushes,
        )
        self.introduced = asyncio.Event()
        """Set once the agent is known, or never will be."""
        self._agents = agents
        self._guard = guard
        self._limits = limits
        self._frames = frames
        self._clock = asyncio.get_running_loop().time
        self._bucket = Bucket(limits.messages_per_second, limits.message_burst, self._clock())
        self._certificate: PeerCertificate | None = None
        self._host: str | None = None
        self._renewing: asyncio.Task[None] | None = None
        """At most one: who asks for more meanwhile is not answered."""
        self._heard = 0.0
        self._complain_after = 0.0

    def opened(self, transport: asyncio.Transport) -> None:
        """Read who the certificate says it is."""
        self._certificate = PeerCertificate.of(transport.get_extra_info("peercert"))
        address = transport.get_extra_info("peername") or ("?", 0)
        self.peer = f"{self._named}@{address[0]}:{address[1]}"

    def received(self, value: Any) -> None:  # noqa: ANN401 - untrusted
        """Handle one message."""
        self._heard = self._clock()
        if not self._bucket.take(self._heard):
            self.refuse(f"it says more than {self._limits.messages_per_second:g} things a second")
            return
        message = parse(FROM_AGENT, value)
        if message is None:
            return
        if isinstance(message, Hello):
            self._introduce(message)
        elif self._host is None:
            raise MessageError(f"{message.type} before hello")
        else:
            self._take(self._host, message)

    def _take(self, host: str, message: AgentMessage) -> None:
        """Handle what an agent says that has introduced itself."""
        if isinstance(message, Report):
            _believe(max(message.generation, message.refused or 0))
            self._agents.reported(host, self, message)
        elif isinstance(message, Flows):
            self._agents.flows_reported(host, self, message)
        elif isinstance(message, Need):
            self._supply(host, message)
        elif isinstance(message, ChallengeAnswer):
            self._guard.answered(host, message)
        elif isinstance(message, Renew):
            self._begin_renewal(host, message)
        elif isinstance(message, Holds):
            _in_background(self._tell(host, message))

    def refuse(self, reason: str) -> None:
        """Tell the agent why it is not served, and close."""
        log.warning("peer=%s refused: %s", self.peer, reason)
        self.send(Refused(reason=reason))
        self.close("refused")

    @property
    def host(self) -> str | None:
        """Whose agent it is, once it has introduced itself."""
        return self._host

    @property
    def _named(self) -> str | None:
        return self._certificate.name if self._certificate else None

    def closed(self) -> None:
        """Tell that the agent is away."""
        self.introduced.set()
        if self._host is not None:
            log.info("peer=%s host=%s disconnected", self.peer, self._host)
            self._guard.left(self._host, self)
            self._agents.disconnected(self._host, self)

    def _introduce(self, hello: Hello) -> None:
        if self._host is not None:
            raise MessageError("a second hello")
        refusal = self._why_not(hello)
        if refusal is not None:
            self.refuse(refusal)
            return
        self._host = hello.host
        log.info(
            "peer=%s host=%s connected kernel=%r tap=%r targets=%s generation=%d",
            self.peer,
            hello.host,
            hello.kernel,
            hello.tap,
            ",".join(hello.targets) or "-",
            hello.generation,
        )
        self.send(Welcome(version=PROTOCOL_VERSION, heartbeat=self._limits.heartbeat))
        self._agents.connected(self, hello)
        self._guard.arrived(hello.host, self)
        self.introduced.set()
        if self._certificate is not None:
            _in_background(self._guard.seen(self._certificate))

    async def _tell(self, host: str, holds: Holds) -> None:
        if self.is_open:  # else the host may have been cut off, and enrolled anew, since it said so
            await self._guard.told(host, self, holds)

    def _begin_renewal(self, host: str, asked: Renew) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = _in_background(self._renew(host, asked.request))

    async def _renew(self, host: str, request: bytes) -> None:
        renewed = await self._guard.renew(host, request)
        if renewed.certificate:
            self._certificate = PeerCertificate.read(renewed.certificate)
        self.send(renewed)

    def _why_not(self, hello: Hello) -> str | None:
        if self._certificate is None or hello.host != self._named:
            return f"the certificate is that of {self._named!r}, not of {hello.host!r}"
        if PROTOCOL_VERSION not in hello.versions:
            return f"this NCO speaks version {PROTOCOL_VERSION}, the agent {hello.versions}"
        if hello.generation > HIGHEST_GENERATION:
            return f"generation {hello.generation} is not believable"
        return self._guard.refusal(self._certificate)

    def _supply(self, host: str, need: Need) -> None:
        found = {
            digest: self._agents.artifact_for(host, digest)
            for digest in dict.fromkeys(need.digests)
        }
        for artifact in filter(None, found.values()):
            self.push(self._frames.frame(artifact))
        missing = [digest for digest, artifact in found.items() if artifact is None]
        if missing and self._heard >= self._complain_after:
            self._complain_after = self._heard + COMPLAIN_EVERY
            log.warning(
                "host=%s needs artifacts that it was not told of, or whose files are damaged: %s",
                host,
                " ".join(missing),
            )

    def check(self) -> None:
        """Cut an agent off that is silent, or whose certificate is good no more."""
        if self._host is None or self._certificate is None or not self.is_open:
            return
        quiet = self._clock() - self._heard
        refusal = self._guard.refusal(self._certificate)
        if refusal is not None:
            self.refuse(refusal)
        elif quiet >= self._limits.silence:
            self.abort(f"silent for {quiet:.1f} s")


def _believe(generation: int) -> None:
    if generation > HIGHEST_GENERATION:
        raise MessageError(f"generation {generation} is not believable")


class ControlServer:
    """Accepts agents; `start`, then `run` until cancelled."""

    def __init__(
        self,
        agents: Agents,
        guard: Guard,
        context: Callable[[], ssl.SSLContext],
        limits: ControlLimits,
    ) -> None:
        """`context` is asked for each connection: whom it trusts may change."""
        self._agents = agents
        self._guard = guard
        self._context = context
        self._limits = limits
        self._listener: socket.socket | None = None
        self._door = Door("control channel", limits.unknown_peers, self._welcome)
        self._pushes = Pushes(lambda call: asyncio.get_running_loop().call_soon(call))
        self._frames = ArtifactFrames()
        self._connections: weakref.WeakSet[AgentConnection] = weakref.WeakSet()

    def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen; return where. Raises OSError."""
        self._listener = socket.create_server((address, port), backlog=BACKLOG)
        bound: tuple[str, int] = self._listener.getsockname()
        return bound

    def cut(self, host: str, reason: str) -> bool:
        """End the session of a host at once; whether there was one."""
        sessions = [one for one in self._connections if one.host == host and one.is_open]
        for session in sessions:
            session.refuse(reason)
        return bool(sessions)

    async def run(self) -> None:
        """Accept until cancelled, then close all connections."""
        assert self._listener is not None, "start first"  # noqa: S101
        watching = asyncio.create_task(self._watch())
        try:
            await self._door.run(self._listener)
        finally:
            watching.cancel()
            log.info("ending: %d connections are closed", len(self._connections))
            for connection in self._connections:
                connection.drop()

    async def _watch(self) -> None:
        """Check all connections again and again: a timer for each of them would cost more."""
        while True:
            await asyncio.sleep(self._limits.heartbeat / 2)
            for number, connection in enumerate(list(self._connections), 1):
                try:
                    connection.check()
                except Exception:  # of one host's, must not leave all others unwatched
                    log.exception("peer=%s could not be checked", connection.peer)
                if number % CHECKED_AT_ONCE == 0:
                    await asyncio.sleep(0)  # the others' turn

    async def _welcome(self, sock: socket.socket, address: Address) -> None:
        """See a new connection through its handshake and its hello."""
        connection = AgentConnection(
            self._agents, self._guard, self._limits, self._pushes, self._frames
        )
        try:
            await hand_over(sock, connection, self._context(), self._limits.handshake_time)
        except HandshakeError as error:
            log.warning("peer=%s:%d handshake failed: %s", *address, str(error) or BROKEN_OFF)
            return
        await self._introduced(connection)

    async def _introduced(self, connection: AgentConnection) -> None:
        self._connections.add(connection)
        try:
            await asyncio.wait_for(connection.introduced.wait(), self._limits.hello_time)
        except TimeoutError:
            connection.abort(f"no hello within {self._limits.hello_time:g} s")
        except asyncio.CancelledError:
            connection.abort("it has not introduced itself")
            raise


def _in_background(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Do it beside; a fault of it is logged, and nobody's end."""
    task = asyncio.create_task(work)
    _BACKGROUND.add(task)
    task.add_done_callback(_finished)
    return task


_BACKGROUND: set[asyncio.Task[None]] = set()
"""Held, as asyncio itself holds tasks only weakly."""


def _finished(task: asyncio.Task[None]) -> None:
    _BACKGROUND.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("what a connection asked for failed", exc_info=error)
