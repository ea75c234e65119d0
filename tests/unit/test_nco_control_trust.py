"""Who is served on the control channel: certificates, names, and who was let go."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from controller import ca
from controller.config import NcoConfig, StateFolder
from controller.control import AgentConnection
from tests.unit.control_kit import Peer, World, in_world
from wire.identity import NCO_NAME, Credentials
from wire.messages import ChallengeAnswer, Holds, Renew, dump


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
        agent.send(dump(Holds(authorities=["0" * 64])))
        agent.send({"type": "report", "generation": 3})
        await world.until("report h1 3")
        assert [held.issuer for held in world.gate.held] == [None]
        assert [answer.nonce for answer in world.gate.answers] == [b"n" * 16]
        assert world.gate.seen_hosts == ["h1"]

    in_world(tmp_path, test)


def test_what_was_said_on_a_connection_that_was_cut_is_not_passed_on(tmp_path: Path) -> None:
    """Its host may have been enrolled anew: that is why it was cut."""

    async def test(world: World) -> None:
        await world.agent()
        (connection,) = world.gate.links
        assert isinstance(connection, AgentConnection)
        connection._take("h1", Holds(authorities=["0" * 64]))
        assert world.server.cut("h1", "enrolled anew")
        await world.still_serves()
        assert world.gate.held == []

    in_world(tmp_path, test)
