"""The control channel's client: every way in which a session can fail has its words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from host_agent.channel import MAX_UNSENT, Address, Backoff, Channel, explain
from host_agent.converge import Connected, Disconnected
from tests.unit.agent_kit import (
    Network,
    Session,
    background,
    desired,
    eventually,
    logged,
    scripted,
)
from tests.waiting import PATIENCE
from wire.frames import HEADER, MAX_FRAME, encode
from wire.identity import NCO_NAME, Credentials
from wire.messages import ArtifactData, Desired, Heartbeat, Hello, Refused, Report, Welcome, dump


class Owner:
    """Who a channel works for: keeps what was delivered."""

    def __init__(self, nco: Address, credentials: Credentials) -> None:
        self.delivered: list[Connected | Disconnected | Desired | ArtifactData] = []
        self.channel = Channel(
            nco,
            credentials.client_context(),
            hello=self._hello,
            heartbeat=lambda: Heartbeat(generation=3),
            deliver=self._deliver,
            backoff=Backoff(base=0.01, cap=0.05),
        )

    async def _hello(self) -> Hello:
        return Hello(host="h1", boot_id="boot", kernel="6.18")

    async def _deliver(self, event: Connected | Disconnected | Desired | ArtifactData) -> None:
        self.delivered.append(event)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path / "ours")


@pytest.fixture
def other(tmp_path: Path) -> Network:
    return Network(tmp_path / "theirs")


@contextlib.asynccontextmanager
async def session(network: Network) -> AsyncIterator[tuple[Session, Owner]]:
    """Give a session in which the agent has said hello, and nobody has answered."""
    async with scripted(network.nco) as nco:
        owner = Owner(nco.address, network.host)
        async with background(owner.channel.run()):
            first = await nco.session()
            await first.receive(Hello)
            yield first, owner


def test_messages_reach_the_owner_and_unknown_types_do_not(network: Network) -> None:
    async def play() -> None:
        async with session(network) as (nco, owner):
            nco.greet()
            nco.send_bytes(encode({"type": "from-the-future", "x": 1}))
            nco.send(Welcome(version=1, heartbeat=1), desired(5))
            await eventually(lambda: len(owner.delivered) == 2)
            assert owner.delivered == [Connected(), desired(5)]

    asyncio.run(play())


def test_silence_is_filled_with_heartbeats(network: Network) -> None:
    async def play() -> None:
        async with session(network) as (nco, _):
            nco.greet(heartbeat=1e-9)  # no NCO makes an agent busy: it beats at its own least pace
            for _ in range(2):
                assert (await nco.receive(Heartbeat)).generation == 3

    asyncio.run(play())


def test_the_end_of_a_session_is_told_and_another_one_begins(network: Network) -> None:
    async def play() -> None:
        async with scripted(network.nco) as nco:
            owner = Owner(nco.address, network.host)
            async with background(owner.channel.run()):
                for _ in range(3):
                    one = await nco.session()
                    await one.receive(Hello)
                    one.greet()
                    one.close()
                await eventually(lambda: len(owner.delivered) >= 6)
                assert owner.delivered[:6] == [Connected(), Disconnected()] * 3

    asyncio.run(play())


NOT_A_HELLO = {"type": "desired", "generation": 1, "customizations": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (encode(dump(Refused(reason="who is h1?"))), "the NCO refused this host: who is h1?"),
        (encode(dump(Welcome(version=9, heartbeat=1))), "speaks version 9, this agent [1]"),
        (encode(NOT_A_HELLO), "began with 'desired' instead of 'welcome'"),
        (encode({"type": "welcome", "version": 1, "heartbeat": -1}), "welcome.heartbeat"),
        (HEADER.pack(MAX_FRAME + 1), f"frame of {MAX_FRAME + 1} bytes announced"),
        (HEADER.pack(3) + b"\xc1\xc1\xc1", "what is no frame: frame is not msgpack"),
        (encode([1, 2, 3]), "cannot be accepted: frame is not a map with a type"),
        (b"", "closed the connection instead of greeting"),
    ],
)
def test_a_bad_greeting_is_explained(
    network: Network, caplog: pytest.LogCaptureFixture, answer: bytes, words: str
) -> None:
    async def play() -> None:
        async with session(network) as (nco, owner):
            nco.send_bytes(answer)
            if not answer:
                nco.close()
            await logged(caplog, words)
            await nco.ended()
            assert owner.delivered == []

    asyncio.run(play())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (HEADER.pack(2**32 - 1), f"frame of {2**32 - 1} bytes announced, at most {MAX_FRAME}"),
        (encode({"type": "desired", "generation": "x"}), "cannot be accepted: desired.generation"),
        (
            encode(dump(Refused(reason="another agent connected as 'h1'"))),
            "the NCO refused this host: another agent connected as 'h1'",
        ),
    ],
)
def test_what_ends_a_session_later_is_explained(
    network: Network, caplog: pytest.LogCaptureFixture, answer: bytes, words: str
) -> None:
    async def play() -> None:
        async with session(network) as (nco, owner):
            nco.greet()
            nco.send(desired(1))
            nco.send_bytes(answer)
            await logged(caplog, words)
            await nco.ended()
            await eventually(lambda: len(owner.delivered) == 3)
            assert owner.delivered == [Connected(), desired(1), Disconnected()]

    asyncio.run(play())


def test_an_nco_that_does_not_read_loses_the_session(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        async with session(network) as (nco, owner):
            nco.greet()
            await eventually(lambda: owner.delivered)
            long = Report(generation=1, error="x" * 4000)
            for _ in range(64 * MAX_UNSENT // 4000):  # more than sockets and both buffers take
                owner.channel.send(long)
            await logged(caplog, "the NCO does not read")
            owner.channel.send(long)  # without a session nothing happens

    asyncio.run(play())


def test_an_nco_of_another_ca_is_refused(
    network: Network, other: Network, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        async with scripted(other.nco) as nco:
            owner = Owner(nco.address, network.host)
            async with background(owner.channel.run()):
                await logged(caplog, "the NCO's certificate is not one of our CA's for 'nco'")

    asyncio.run(play())


def test_a_host_that_answers_in_the_ncos_place_is_refused(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        async with scripted(network.host) as impostor:
            owner = Owner(impostor.address, network.host)
            async with background(owner.channel.run()):
                await logged(caplog, "the NCO's certificate is not one of our CA's for 'nco'")

    asyncio.run(play())


def test_a_host_of_another_ca_is_told_that_it_may_be_refused(
    network: Network, other: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server of asyncio closes without an alert; a client can know no more."""

    async def play() -> None:
        async with scripted(network.nco) as nco:
            owner = Owner(nco.address, mixed(tmp_path, identity=other, ca=network))
            async with background(owner.channel.run()):
                await logged(caplog, "it may have refused this host's certificate")

    asyncio.run(play())


def test_an_alert_about_the_certificate_is_explained(
    network: Network, other: Network, tmp_path: Path
) -> None:
    context = mixed(tmp_path, identity=other, ca=network).client_context()
    with alerting_server(network.nco.server_context()) as address:
        raw = socket.create_connection((address.host, address.port), timeout=PATIENCE)
        with (
            context.wrap_socket(raw, server_hostname=NCO_NAME) as connection,
            pytest.raises(ssl.SSLError) as refused,
        ):
            connection.recv(1)
    assert "the NCO refused this host's certificate (TLSV1_ALERT_UNKNOWN_CA)" in explain(
        refused.value
    )


def mixed(folder: Path, *, identity: Network, ca: Network) -> Credentials:
    """Return credentials whose certificate is one network's and whose CA is another's."""
    credentials = Credentials(folder / "mixed")
    credentials.folder.mkdir()
    credentials.ca.write_bytes(ca.host.ca.read_bytes())
    credentials.certificate.write_bytes(identity.host.certificate.read_bytes())
    shutil.copy(identity.host.key, credentials.key)
    return credentials


@contextlib.contextmanager
def alerting_server(context: ssl.SSLContext) -> Iterator[Address]:
    """Accept one connection with OpenSSL's own server: it sends an alert where it refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            raw, _ = listener.accept()
            with raw, contextlib.suppress(OSError):
                raw.settimeout(PATIENCE)
                context.wrap_socket(raw, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("127.0.0.1", listener.getsockname()[1])
        finally:
            thread.join(PATIENCE)


def test_nobody_listening_is_explained(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])

    async def play() -> None:
        async with background(Owner(address, network.host).channel.run()):
            await logged(caplog, "nothing listens there (is the NCO service running?)")

    asyncio.run(play())


def test_a_server_without_tls_is_explained(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await reader.read(1)
        writer.close()

    async def play() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            async with background(Owner(address, network.host).channel.run()):
                await logged(caplog, "what listens there does not speak TLS 1.3")

    asyncio.run(play())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the NCO's name cannot be resolved"),
        (TimeoutError(), "the NCO does not answer"),
        (ConnectionResetError(), "the connection broke"),
        (
            OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 4545)"),
            "No route to host",
        ),
        (OSError("no such thing"), "no such thing"),
    ],
)
def test_other_failures_are_explained(error: Exception, words: str) -> None:
    assert words in explain(error)


@pytest.mark.parametrize("days", [-30, 30], ids=["expired", "not yet valid"])
def test_a_certificate_of_another_time_is_explained(
    network: Network, caplog: pytest.LogCaptureFixture, days: int
) -> None:
    """The NCO's clock, or this host's, is a month off: the operator is told to look at both."""
    network.date(datetime.now(UTC) + timedelta(days=days))

    async def play() -> None:
        async with (
            scripted(network.nco) as nco,
            background(Owner(nco.address, network.host).channel.run()),
        ):
            await logged(caplog, "is the clock right here, and at the NCO?")

    asyncio.run(play())


def test_pauses_double_up_to_the_cap_and_begin_small_again() -> None:
    longest = Backoff(base=0.2, cap=10, uniform=lambda _, ceiling: ceiling)
    assert [longest.pause() for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    longest.reset()
    assert longest.pause() == 0.2


def test_pauses_are_drawn_from_nothing_to_the_ceiling() -> None:
    drawn: list[tuple[float, float]] = []
    backoff = Backoff(base=1, cap=8, uniform=lambda *span: drawn.append(span) or 0.0)
    for _ in range(3):
        backoff.pause()
    assert drawn == [(0, 1), (0, 2), (0, 4)]
