"""The control channel's client: finds the NCO, stays connected, moves messages.

One session at a time: connect, TLS 1.3 with both certificates, `Hello`, `Welcome`, then messages
both ways and a heartbeat wherever the agent had nothing to say. When a session ends, for whatever
reason, the reason is logged in the operator's words and another one is tried, after a pause that
doubles and is drawn at random ("full jitter": thousands of agents lose their NCO in one moment,
and must not all come back in one).

Memory is bounded in both directions: what the NCO sends waits in the kernel until the agent has
taken what came before, and an NCO that does not read loses the session.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from host_agent.converge import Connected, Disconnected
from wire import frames
from wire.frames import FrameError, FrameReader
from wire.identity import CONTROL_PORT, NCO_NAME
from wire.messages import (
    FROM_NCO,
    AgentMessage,
    ArtifactData,
    Challenge,
    Desired,
    Heartbeat,
    Hello,
    MessageError,
    NcoMessage,
    Refused,
    Renewed,
    RenewNow,
    Welcome,
    dump,
    parse,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""For TCP and TLS; the NCO may have thousands at its door."""

GREETING_SECONDS = 10.0
"""From `Hello` to `Welcome`."""

MIN_HEARTBEAT = 0.2
"""Seconds; no NCO makes an agent busy with heartbeats."""

LIVED_SECONDS = 5.0
"""A session that lasted as long was no failure: the pauses begin small again."""

MAX_UNSENT = 1024 * 1024
"""Bytes that may wait for an NCO that does not read."""

READ_SIZE = 65536

WRONG_TIME = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

Messages = AsyncGenerator[NcoMessage, None]

Asked = Challenge | Renewed | RenewNow
"""What is not about the set of customizations."""


class SessionError(Exception):
    """A session could not begin or has ended; the text is for the operator."""


@dataclass(frozen=True)
class Address:
    """Where the NCO listens."""

    host: str
    port: int = CONTROL_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Backoff:
    """Pauses between attempts: exponential, with full jitter.

    See M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(
        self,
        base: float = 0.2,
        cap: float = 10.0,
        uniform: Callable[[float, float], float] = random.uniform,  # no secret: a pause
    ) -> None:
        """Pause up to `base` seconds first, never more than `cap`; `uniform` draws."""
        self._base = base
        self._cap = cap
        self._uniform = uniform
        self._ceiling = base

    def pause(self) -> float:
        """Return the seconds to wait before the next attempt."""
        ceiling, self._ceiling = self._ceiling, min(self._cap, self._ceiling * 2)
        return self._uniform(0, ceiling)

    def reset(self) -> None:
        """Begin small again."""
        self._ceiling = self._base


class Channel:
    """Keeps a session with the NCO, for as long as `run` runs."""

    def __init__(
        self,
        nco: Address,
        context: ssl.SSLContext,
        *,
        hello: Callable[[], Awaitable[Hello]],
        heartbeat: Callable[[], Heartbeat],
        deliver: Callable[[Connected | Disconnected | Desired | ArtifactData], Awaitable[None]],
        asked: Callable[[Asked], Awaitable[None]] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Greet with `hello()`, say `heartbeat()` when idle, hand what happens to `deliver`.

        `asked` gets what is not about the set of customizations. While either waits, nothing more
        is read.
        """
        self._nco = nco
        self._context = context
        self._hello = hello
        self._heartbeat = heartbeat
        self._deliver = deliver
        self._asked = asked
        self._backoff = backoff or Backoff()
        self._writer: asyncio.StreamWriter | None = None
        self._last_sent = 0.0
        self._unread = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a session."""
        return self._writer is not None

    def use(self, context: ssl.SSLContext) -> None:
        """Show other credentials from the next session on; this one goes on."""
        self._context = context

    def send(self, message: AgentMessage) -> None:
        """Send to the NCO; without a session the message is dropped (`Connected` comes later)."""
        if self._writer is None:
            return
        self._last_sent = _now()
        self._writer.write(frames.encode(dump(message)))
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self._unread = True
            self._writer.transport.abort()

    async def run(self) -> None:
        """Serve one session after the other; only cancelling ends it."""
        while True:
            try:
                reason = await self._session()
            except (SessionError, FrameError, MessageError, OSError) as error:
                reason = explain(error)
            if self._writer is not None:
                self._writer = None
                await self._deliver(Disconnected())
            pause = self._backoff.pause()
            log.warning("no session nco=%s reason=%r retry_seconds=%.1f", self._nco, reason, pause)
            await asyncio.sleep(pause)

    async def _session(self) -> str:
        """Connect, greet, serve; return why it ended, or raise."""
        hello = await self._hello()
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                self._nco.host,
                self._nco.port,
                ssl=self._context,
                server_hostname=NCO_NAME,
                ssl_shutdown_timeout=1,
            )
        try:
            messages = _received(reader)
            async with asyncio.timeout(GREETING_SECONDS):
                welcome = await _greet(writer, messages, hello)
            return await self._serve(writer, messages, welcome)
        finally:
            writer.close()

    async def _serve(
        self, writer: asyncio.StreamWriter, messages: Messages, welcome: Welcome
    ) -> str:
        interval = max(welcome.heartbeat, MIN_HEARTBEAT)
        _give_up_after(writer, max(CONNECT_SECONDS, 3 * interval))
        log.info("session nco=%s heartbeat_seconds=%g", self._nco, interval)
        began = self._last_sent = _now()
        self._writer, self._unread = writer, False
        heart = asyncio.create_task(self._beat(interval))
        try:
            await self._deliver(Connected())
            async for message in messages:
                if isinstance(message, Refused):
                    return f"the NCO refused this host: {message.reason}"
                if isinstance(message, Desired | ArtifactData):
                    await self._deliver(message)
                elif isinstance(message, Asked) and self._asked is not None:
                    await self._asked(message)
        finally:
            heart.cancel()
            if _now() - began >= LIVED_SECONDS:
                self._backoff.reset()
        return "the NCO does not read" if self._unread else "the NCO closed the connection"

    async def _beat(self, interval: float) -> None:
        """Say something at least every `interval` seconds."""
        while True:
            due = self._last_sent + interval - _now()
            if due <= 0:
                self.send(self._heartbeat())
                due = interval
            await asyncio.sleep(due)


async def _greet(writer: asyncio.StreamWriter, messages: Messages, hello: Hello) -> Welcome:
    """Say hello and return the NCO's answer.

    In TLS 1.3 a client learns only here that its certificate was not accepted: by an alert, or,
    from a server that closes at once (asyncio's does), by nothing but the end.
    """
    try:
        writer.write(frames.encode(dump(hello)))
        first = await anext(messages, None)
    except ConnectionError:
        first = None
    if isinstance(first, Refused):
        raise SessionError(f"the NCO refused this host: {first.reason}")
    if first is None:
        raise SessionError(
            "the NCO closed the connection instead of greeting: it may have refused this host's "
            "certificate, its log says why; `nco host token` and `dca enrol` make a new one"
        )
    if not isinstance(first, Welcome):
        raise SessionError(f"the NCO began with {first.type!r} instead of 'welcome'")
    if first.version not in hello.versions:
        raise SessionError(f"the NCO speaks version {first.version}, this agent {hello.versions}")
    return first


async def _received(reader: asyncio.StreamReader) -> Messages:
    """Yield the messages that arrive, until the NCO closes; unknown types are passed over."""
    incoming = FrameReader()
    while data := await reader.read(READ_SIZE):
        for value in incoming.feed(data):
            message = parse(FROM_NCO, value)
            if message is not None:
                yield message


def _give_up_after(writer: asyncio.StreamWriter, seconds: float) -> None:
    """End the connection when the NCO's kernel acknowledges nothing for so long."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _now() -> float:
    return asyncio.get_running_loop().time()


def explain(error: Exception) -> str:
    """Return why a session failed, in words that say what to look at."""
    return next(
        (words(error) for kind, words in EXPLANATIONS if isinstance(error, kind)), str(error)
    )


def _explain_tls(error: ssl.SSLError) -> str:
    """Return what OpenSSL's name for a TLS failure means on this channel."""
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERTIFICATE" in reason or reason.endswith("_CA")):
        return (
            f"the NCO refused this host's certificate ({reason}); "
            "`nco host token` and `dca enrol` make a new one"
        )
    if "VERSION" in reason or "RECORD" in reason:
        return f"what listens there does not speak TLS 1.3 ({reason}): is it the NCO's port?"
    return f"TLS failed: {reason}"


def _explain_certificate(error: ssl.SSLCertVerificationError) -> str:
    """Return why the NCO's certificate is not accepted."""
    if error.verify_code in WRONG_TIME:
        return (
            f"the NCO's certificate is not good by this host's clock: {error.verify_message} (is "
            "the clock right here, and at the NCO?)"
        )
    return (
        f"the NCO's certificate is not one of our CA's for {NCO_NAME!r}: "
        f"{error.verify_message} (another NCO's address, or credentials of another network?)"
    )


EXPLANATIONS: tuple[tuple[type[Exception], Callable[[Any], str]], ...] = (
    (ssl.SSLCertVerificationError, _explain_certificate),
    (ssl.SSLError, _explain_tls),
    (FrameError, "the NCO sent what is no frame: {}".format),
    (MessageError, "the NCO sent a message that cannot be accepted: {}".format),
    (socket.gaierror, lambda error: f"the NCO's name cannot be resolved: {error.strerror}"),
    (ConnectionRefusedError, lambda _: "nothing listens there (is the NCO service running?)"),
    (ConnectionError, lambda _: "the connection broke"),
    (TimeoutError, lambda _: "the NCO does not answer"),
    (OSError, lambda error: os.strerror(error.errno) if error.errno else str(error)),
)
"""The first that fits; particular kinds stand before the general ones they belong to."""
