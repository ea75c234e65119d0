"""What the tests of the agent share: credentials, a tap in memory, a scripted NCO over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller import authorities, ca
from controller.certificates import CLIENT, SERVER, pem, requested_key
from controller.config import NcoConfig, StateFolder
from host_agent.channel import Address
from host_agent.tap import TapError
from tests.waiting import PATIENCE
from wire import credential_files
from wire.artifact import Artifact
from wire.frames import FrameReader, encode
from wire.identity import NCO_NAME, Credentials
from wire.match import Match
from wire.messages import (
    FROM_AGENT,
    ArtifactData,
    Counters,
    Customization,
    Desired,
    Flow,
    Message,
    Status,
    Target,
    Welcome,
    dump,
    parse,
)

M = TypeVar("M", bound=Message)


class Network:
    """A CA of its own, with the credentials of an NCO and of host h1, and a signer."""

    def __init__(self, folder: Path) -> None:
        self._state = StateFolder(folder / "nco")
        ca.initialise(self._state, NcoConfig(control="127.0.0.1:4545", listen="127.0.0.1:0"))
        self.nco = self._state.credentials
        self.host = ca.issue_host(self._state, "h1", folder / "h1")
        self.signer = ca.load_signer(self._state)

    def date(self, made: datetime) -> None:
        """Give the NCO a certificate that was made at this time, for a day."""
        authority = authorities.load(self._state, self._state.load_config()).signing
        key = credential_files.new_key()
        certificate = authority.issue(
            key.public_key(), NCO_NAME, SERVER, lifetime=timedelta(days=1), now=made
        )
        credential_files.replace(
            self.nco,
            key=credential_files.key_pem(key),
            certificate=pem(certificate),
            ca=self.nco.ca.read_bytes(),
        )

    def certificate(self, request: bytes) -> bytes:
        """Return a certificate of host h1 for the key in a request."""
        authority = authorities.load(self._state, self._state.load_config()).signing
        key, day = requested_key(request), timedelta(days=1)
        return pem(authority.issue(key, "h1", CLIENT, lifetime=day, now=datetime.now(UTC)))

    def artifact(self, name: str = "dns_app_tag", data: bytes = b"code") -> ArtifactData:
        return signed(self.signer, name, data)


def signed(key: Ed25519PrivateKey, name: str, data: bytes, target: Target = "bpf") -> ArtifactData:
    artifact = Artifact(name, "1.0.0", target, data)
    return artifact.message(artifact.sign(key))


def customization(
    artifact: ArtifactData, number: int = 1, *, receive: bool = True, send: bool = True
) -> Customization:
    return Customization(
        id=f"{number:032x}",
        intent="tag",
        module=artifact.name,
        digest=artifact.digest,
        target=artifact.target,
        match=Match(transport="udp", process="dig"),
        receive=receive,
        send=send,
    )


def desired(generation: int, *wanted: Customization) -> Desired:
    return Desired(generation=generation, customizations=list(wanted))


def status(one: Customization, sent: int = 0) -> Status:
    return Status(
        id=one.id,
        module=one.module,
        digest=one.digest,
        receive=one.receive,
        send=one.send,
        active=one.active,
        deprecated=one.deprecated,
        counters=Counters(sent=sent),
    )


class MemoryTap:
    """The contract of `host_agent.tap` without a kernel.

    `fault` makes `apply` and `start` fail, `gone` all that asks the kernel.
    """

    def __init__(self, target: Target = "bpf") -> None:
        self.name: str = target
        self.target: Target = target
        self.loaded: dict[str, Artifact] = {}
        self.sets: list[list[Customization]] = []
        """Each set that was applied, in order."""
        self.sent = 0
        self.open: list[Flow] = []
        self.fault: Exception | None = None
        self.gone: Exception | None = None

    @property
    def running(self) -> list[Customization]:
        return self.sets[-1] if self.sets else []

    def start(self) -> None:
        if self.fault:
            raise self.fault

    def has_artifact(self, digest: str) -> bool:
        return digest in self.loaded

    def load_artifact(self, artifact: Artifact) -> None:
        self.loaded[artifact.digest] = artifact

    def apply(self, customizations: Sequence[Customization]) -> None:
        if fault := self.fault or self.gone:
            raise fault
        assert all(c.target == self.target for c in customizations)
        if not all(c.digest in self.loaded for c in customizations):
            raise TapError("an artifact is not loaded")
        self.sets.append(list(customizations))

    def customizations(self) -> list[Status]:
        if self.gone:
            raise self.gone
        return [status(one, self.sent) for one in self.running]

    def flows(self) -> list[Flow]:
        if self.gone:
            raise self.gone
        return list(self.open)

    def stop(self) -> None:
        self.sets.append([])


class Session:
    """The NCO's end of one connection of an agent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._values: Iterator[Any] = iter(())

    async def receive(self, kind: type[M]) -> M:
        """Return the next message of this kind; others in between are passed over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for value in self._values:
                    message = parse(FROM_AGENT, value)
                    if isinstance(message, kind):
                        return message
                data = await self._reader.read(65536)
                assert data, f"the agent closed while {kind.__name__} was expected"
                self._values = self._frames.feed(data)

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.send_bytes(encode(dump(message)))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def greet(self, heartbeat: float = 60.0) -> None:
        self.send(Welcome(version=1, heartbeat=heartbeat))

    async def ended(self) -> None:
        """Return when the agent has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass

    def close(self) -> None:
        self._writer.close()


class ScriptedNco:
    """A TLS server on the loopback interface; tests take the sessions and play the NCO."""

    def __init__(self, credentials: Credentials) -> None:
        self._context = credentials.server_context()
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()
        self._open: list[Session] = []
        self._server: asyncio.Server | None = None
        self.address = Address("127.0.0.1", 0)

    async def start(self) -> None:
        """Listen, the second time where it was the first time."""
        self._server = await asyncio.start_server(
            self._accept, self.address.host, self.address.port, ssl=self._context
        )
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    def kill(self) -> None:
        """Close everything, as a process that dies."""
        assert self._server is not None
        self._server.close()
        for session in self._open:
            session.close()
        self._open.clear()

    async def session(self) -> Session:
        """Return the next connection of an agent."""
        async with asyncio.timeout(PATIENCE):
            return await self._sessions.get()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(reader, writer)
        self._open.append(session)
        await self._sessions.put(session)


@contextlib.asynccontextmanager
async def scripted(credentials: Credentials) -> AsyncIterator[ScriptedNco]:
    """Listen as an NCO with these credentials."""
    nco = ScriptedNco(credentials)
    await nco.start()
    try:
        yield nco
    finally:
        nco.kill()


@contextlib.asynccontextmanager
async def background(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `job` meanwhile; a fault in it is the test's."""
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def eventually(what: Callable[[], object]) -> None:
    """Return when `what` is true."""
    async with asyncio.timeout(PATIENCE):
        while not what():  # noqa: ASYNC110 - of things that have no event
            await asyncio.sleep(0.01)


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Return when a line with `text` was logged."""
    await eventually(lambda: text in caplog.text)
