"""Trust at a real service: enrolment, renewal, revocation, callers with tokens, the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from controller import ca
from controller.access import READING, RULES
from controller.config import NcoConfig, StateFolder
from controller.trust import REFUSALS
from host_agent.channel import Address, Asked, Backoff, Channel
from host_agent.converge import Connected
from host_agent.enrol import EnrolmentError, _ask, enrol
from host_agent.renewal import Renewal
from tests.unit.nco_kit import Service, credentials, eventually, make_state, running
from tests.waiting import PATIENCE
from wire.credential_files import new_key, signing_request
from wire.enrol import Token
from wire.frames import FrameReader, encode
from wire.identity import NCO_NAME, Credentials, PeerCertificate
from wire.messages import Challenge, Heartbeat, Hello, dump

REQUEST = signing_request(new_key(), "kappa")


T = TypeVar("T")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with trusted(tmp_path_factory.mktemp("trust"), 'rest = "127.0.0.1:0"\n') as service:
        yield service


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One whose certificates live 4 s, and 4 more by grace."""
    settings = "certificate_lifetime = 4\ncertificate_grace = 4\n"
    with trusted(tmp_path_factory.mktemp("hasty"), settings) as service:
        yield service


@contextlib.contextmanager
def trusted(folder: Path, settings: str) -> Iterator[Service]:
    state = make_state(folder)
    with state.config.open("a") as file:
        file.write(settings)
    with running(state) as service:
        yield service


def in_time(call: Callable[[], T]) -> T:
    """Call again where the NCO has not renewed its certificate of 4 s in time, for want of CPU."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except (ssl.SSLCertVerificationError, EnrolmentError):
            if time.monotonic() > deadline:
                raise


def call(service: Service, method: str, path: str, **arguments: Any) -> httpx.Response:  # noqa: ANN401
    with service.client() as client:
        return client.request(method, path, **arguments)


def token(service: Service, host: str, valid: float = 60) -> Token:
    answer = call(service, "POST", f"/hosts/{host}/token", json={"valid": valid})
    return Token.decode(answer.raise_for_status().json()["token"])


def enrolled(service: Service, host: str, folder: Path) -> Credentials:
    here = Credentials(folder / host)
    asyncio.run(enrol(token(service, host), here))
    return here


def greet(service: Service, who: Credentials, host: str) -> dict[str, Any]:
    """Return what the NCO says to a hello: `welcome`, or `refused` with the reason."""

    async def play() -> dict[str, Any]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", service.port, ssl=who.client_context(), server_hostname=NCO_NAME
        )
        writer.write(encode(dump(Hello(host=host, boot_id="b", kernel="6.18"))))
        frames = FrameReader()
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(65536):
                for value in frames.feed(data):
                    writer.close()
                    return dict(value)
        raise AssertionError("closed without a word")

    return asyncio.run(play())


def test_a_host_enrols_once_and_its_key_never_leaves_it(service: Service, tmp_path: Path) -> None:
    granted = token(service, "alpha")
    here = Credentials(tmp_path / "alpha")
    found = asyncio.run(enrol(granted, here))
    assert found.nco == service.state.load_config().control
    assert found.expires > time.time()
    assert stat.S_IMODE(here.key.stat().st_mode) == 0o600
    assert greet(service, here, "alpha")["type"] == "welcome"
    with pytest.raises(EnrolmentError, match="used before"):
        asyncio.run(enrol(granted, Credentials(tmp_path / "thief")))
    assert not (tmp_path / "thief").exists()
    database = service.state.path.parent / "state" / "nco.db"
    stored = b"".join(path.read_bytes() for path in database.parent.glob("nco.db*"))
    assert granted.secret not in stored
    assert granted.secret.hex().encode() not in stored
    refused = [e for e in audit(service) if e["action"] == "enrolment refused"]
    assert refused[-1]["subject"] == "alpha"


def audit(service: Service) -> list[dict[str, Any]]:
    return list(service.get("/audit")["entries"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret": bytes(32)}, "does not know this token"),
        ({"host": "mallory"}, "is not for host 'mallory'"),
        ({"fingerprint": bytes(32)}, "is not the NCO that made this token"),
    ],
)
def test_a_token_that_was_tampered_with_is_refused(
    service: Service, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    granted = token(service, "beta")
    with pytest.raises(EnrolmentError, match=words):
        asyncio.run(enrol(granted.model_copy(update=change), Credentials(tmp_path / "beta")))
    asyncio.run(enrol(granted, Credentials(tmp_path / "beta")))


def test_a_newer_token_takes_the_place_of_one_that_was_not_used(
    service: Service, tmp_path: Path
) -> None:
    older, newer = token(service, "gamma"), token(service, "gamma")
    with pytest.raises(EnrolmentError, match="a newer one took its place"):
        asyncio.run(enrol(older, Credentials(tmp_path / "gamma")))
    asyncio.run(enrol(newer, Credentials(tmp_path / "gamma")))


def test_a_revoked_host_is_refused_until_it_enrols_anew(service: Service, tmp_path: Path) -> None:
    first = enrolled(service, "delta", tmp_path)
    assert greet(service, first, "delta")["type"] == "welcome"
    answer = call(service, "POST", "/hosts/delta/revoke").raise_for_status().json()
    assert answer["certificates"] == 1
    refused = greet(service, first, "delta")
    assert "was revoked" in refused["reason"]
    second = enrolled(service, "delta", tmp_path / "again")
    assert greet(service, second, "delta")["type"] == "welcome"
    assert "was revoked" in greet(service, first, "delta")["reason"]


def test_a_revoked_host_has_no_use_of_tokens_that_were_made_before(service: Service) -> None:
    """Also not of the one that it enrolled with, which answers again to who holds the same key."""
    used = token(service, "iota")
    request = signing_request(new_key(), "iota")
    for _ in range(2):
        assert asyncio.run(_ask(used, request))[1].error is None
    unused = token(service, "iota")
    call(service, "POST", "/hosts/iota/revoke").raise_for_status()
    for granted in (used, unused):
        assert "does not know this token" in str(asyncio.run(_ask(granted, request))[1].error)


def test_a_certificate_that_was_issued_offline_is_revoked_with_its_host(service: Service) -> None:
    offline = credentials(service.state, "epsilon")
    assert greet(service, offline, "epsilon")["type"] == "welcome"
    call(service, "POST", "/hosts/epsilon/revoke").raise_for_status()
    assert "was revoked" in greet(service, offline, "epsilon")["reason"]


def test_a_host_that_nobody_ever_heard_of_is_not_revoked_by_mistake(
    service: Service, tmp_path: Path
) -> None:
    offline = credentials(service.state, "kappa")
    answer = call(service, "POST", "/hosts/kappa/revoke")
    assert answer.status_code == 404
    assert "nco host revoke kappa --unseen" in answer.json()["detail"]
    assert greet(service, offline, "kappa")["type"] == "welcome"
    assert call(service, "POST", "/hosts/kappa/revoke").status_code == 200


def test_revocation_survives_the_service(tmp_path: Path) -> None:
    with running(make_state(tmp_path)) as service:
        unseen, seen = credentials(service.state, "h1"), credentials(service.state, "h2")
        assert greet(service, seen, "h2")["type"] == "welcome"
        for host in ("h1", "h2"):
            call(service, "POST", f"/hosts/{host}/revoke?unseen=true").raise_for_status()
        service.restart_after_kill()
        assert "was revoked" in greet(service, unseen, "h1")["reason"]
        assert "was revoked" in greet(service, seen, "h2")["reason"]


class Host:
    """The agent's channel and renewal, without a tap."""

    def __init__(self, service: Service, who: Credentials, host: str) -> None:
        self.sessions = 0
        self._host = host
        self._who = who
        self.channel = Channel(
            Address("127.0.0.1", service.port),
            who.client_context(),
            hello=self._hello,
            heartbeat=lambda: Heartbeat(generation=0),
            deliver=self._deliver,
            asked=self._asked,
            backoff=Backoff(base=0.01, cap=0.05),
        )
        self.renewal = Renewal(
            who,
            host,
            send=self.channel.send,
            replaced=lambda: self.channel.use(who.client_context()),
        )

    async def run(self, until: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(self.channel.run()), tasks.create_task(self.renewal.run())]
            while not until():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for job in jobs:
                job.cancel()

    async def _hello(self) -> Hello:
        return Hello(host=self._host, boot_id="b", kernel="6.18")

    async def _deliver(self, event: object) -> None:
        if isinstance(event, Connected):
            self.sessions += 1
            self.renewal.tell()

    async def _asked(self, message: Asked) -> None:
        if not isinstance(message, Challenge):
            self.renewal.take(message)


def serial(who: Credentials) -> int:
    certificate = PeerCertificate.read(who.certificate.read_bytes())
    assert certificate is not None
    return certificate.serial


def test_a_certificate_is_renewed_again_and_again_and_the_session_goes_on(
    hasty: Service, tmp_path: Path
) -> None:
    """The fourth certificate outlives the grace of the first."""
    who = in_time(lambda: enrolled(hasty, "zeta", tmp_path))
    keys, serials = {who.key.read_bytes()}, {serial(who)}
    host = Host(hasty, who, "zeta")

    def renewed() -> bool:
        keys.add(who.key.read_bytes())
        serials.add(serial(who))
        return len(serials) == 4

    asyncio.run(host.run(renewed))
    assert len(keys) == 4, "each certificate is for a new key"
    assert host.sessions == 1
    assert in_time(lambda: greet(hasty, who, "zeta"))["type"] == "welcome"


def test_a_host_whose_certificate_expired_is_let_in_for_a_while_then_not(
    hasty: Service, tmp_path: Path
) -> None:
    who = in_time(lambda: enrolled(hasty, "eta", tmp_path))

    def greeted() -> dict[str, Any]:
        return in_time(lambda: greet(hasty, who, "eta"))

    eventually(lambda: greeted()["type"] == "refused", "the grace is over")
    assert "has expired" in greeted()["reason"]


def test_after_a_long_absence_both_ends_renew_what_has_expired(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    short = NcoConfig(control="127.0.0.1:4545", listen="127.0.0.1:0", certificate_lifetime=1)
    ca.initialise(state, short)
    who = ca.issue_host(state, "iota", tmp_path / "iota", timedelta(seconds=1))
    own = state.credentials
    eventually(lambda: expired(own) and expired(who), "both have expired")
    with running(state) as service:
        host = Host(service, who, "iota")
        asyncio.run(host.run(lambda: not expired(who)))
        assert not expired(own)
        assert greet(service, who, "iota")["type"] == "welcome"


def expired(credentials: Credentials) -> bool:
    certificate = PeerCertificate.read(credentials.certificate.read_bytes())
    assert certificate is not None
    return certificate.expires < time.time()


def test_the_services_own_certificate_is_renewed_while_it_runs(hasty: Service) -> None:
    own = hasty.state.credentials
    before = serial(own)
    eventually(lambda: serial(own) != before, "a new certificate")

    def shown() -> int:
        pem = ssl.get_server_certificate(("127.0.0.1", hasty.get("/status")["enrol_port"]))
        certificate = PeerCertificate.read(pem.encode())
        assert certificate is not None
        return certificate.serial

    eventually(lambda: shown() != before, "it is shown")


def remote(service: Service, secret: str | None) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(service.state.credentials.ca))
    return httpx.Client(
        verify=context,
        base_url=f"https://127.0.0.1:{service.get('/status')['rest_port']}",
        headers={"Authorization": f"Bearer {secret}"} if secret else {},
        timeout=PATIENCE,
    )


def ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:  # noqa: ANN401
    return client.request(method, path, extensions={"sni_hostname": NCO_NAME}, **arguments)


def silence(port: int) -> ssl.SSLSocket:
    """Return a connection of somebody elsewhere, who has nothing to say."""
    raw = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=("127.0.0.2", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(raw)


def has_ended(connection: ssl.SSLSocket) -> bool:
    """Whether it is closed by the other end, which may have begun with a greeting."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_callers_by_tls_do_what_their_role_allows(service: Service) -> None:
    secrets = {}
    for role in ("viewer", "operator", "admin"):
        answer = call(service, "POST", "/tokens", json={"name": f"t-{role}", "role": role})
        assert answer.status_code == 201
        secrets[role] = answer.json()["token"]
    expected = {
        ("GET", "/intents"): (200, 200, 200),
        ("DELETE", "/intents/none"): (403, 404, 404),
        ("GET", "/audit"): (403, 403, 200),
        ("GET", "/tokens"): (403, 403, 200),
        ("POST", "/hosts/theta/revoke"): (403, 403, 404),
    }
    for (method, path), codes in expected.items():
        for (role, secret), code in zip(secrets.items(), codes, strict=True):
            with remote(service, secret) as client:
                answer = ask(client, method, path)
            assert answer.status_code == code, (role, method, path)
            if code == 403:
                assert f"has the role {role}" in answer.json()["detail"]
    listed = service.get("/tokens")
    assert {token["name"] for token in listed} >= {"t-viewer", "t-operator", "t-admin"}
    assert not any(secret in str(listed) for secret in secrets.values())
    told = [e for e in audit(service) if e["action"] == "DELETE /intents/none"]
    assert {one["actor"]: one["outcome"] for one in told} == {
        "token t-viewer": "refused",
        "token t-operator": "answered 404",
        "token t-admin": "answered 404",
    }

    call(service, "DELETE", "/tokens/t-viewer").raise_for_status()
    with remote(service, secrets["viewer"]) as client:
        assert ask(client, "GET", "/status").status_code == 401


def test_what_a_role_does_not_allow_is_written_down_but_not_without_end(service: Service) -> None:
    made = call(service, "POST", "/tokens", json={"name": "nosy", "role": "viewer"})
    with remote(service, made.json()["token"]) as client:
        assert ask(client, "GET", "/events?kind=audit").status_code == 403
        for number in range(2 * int(REFUSALS)):
            assert ask(client, "DELETE", f"/intents/none-{number}").status_code == 403
        assert ask(client, "GET", "/tokens/%0A").status_code == 403

    def written() -> list[dict[str, Any]]:
        return [one for one in audit(service) if one["actor"] == "token nosy"]

    eventually(lambda: len(written()) >= REFUSALS, "they are in the audit log")
    entries = written()
    assert len(entries) == REFUSALS
    assert [one["action"] for one in entries[:2]] == ["GET /events", "DELETE /intents/none-0"]
    assert {one["source"] for one in entries} == {"127.0.0.1"}
    assert {one["outcome"] for one in entries} == {"refused"}
    assert entries[0]["detail"] == "the role viewer does not suffice"
    assert "more of this caller are not written down" in entries[-1]["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/hosts/a%00b"),
        ("DELETE", "/intents/%00"),
        ("PUT", "/intents/%00"),
        ("POST", "/hosts/%00/labels"),
        ("DELETE", "/tokens/%0A"),
        ("PUT", "/policy?force=%00"),
    ],
)
def test_control_characters_in_addresses_are_refused(
    service: Service, method: str, path: str
) -> None:
    answer = call(service, method, path, json={})
    assert answer.status_code == 400
    assert "control characters" in answer.json()["detail"]


def test_a_stream_of_events_ends_with_its_token(service: Service) -> None:
    made = call(service, "POST", "/tokens", json={"name": "watch", "role": "admin"})
    with remote(service, made.json()["token"]) as client:
        sni = {"sni_hostname": NCO_NAME}
        with client.stream("GET", "/events", extensions=sni) as events:
            assert events.status_code == 200
            call(service, "DELETE", "/tokens/watch").raise_for_status()
            said = "".join(events.iter_text())
    assert "was revoked" in said
    assert "DELETE /tokens" not in said, "what happens after it is not said"


def test_guessing_is_slowed_down_but_who_has_a_token_is_served(service: Service) -> None:
    with remote(service, None) as client:
        answer = ask(client, "GET", "/status")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        codes = [ask(client, "GET", "/status").status_code for _ in range(15)]
    assert codes[-1] == 429
    made = call(service, "POST", "/tokens", json={"name": "late", "role": "viewer", "valid": 60})
    with remote(service, made.json()["token"]) as client:
        assert ask(client, "GET", "/status").status_code == 200


def test_who_says_nothing_keeps_nobody_else_out(service: Service) -> None:
    """Neither from the REST API by TLS, nor from enrolment; from another address, that is."""
    made = call(service, "POST", "/tokens", json={"name": "calm", "role": "viewer", "valid": 60})
    status = service.get("/status")
    for port in (status["rest_port"], status["enrol_port"]):
        with contextlib.ExitStack() as silent:
            connections = [silent.enter_context(silence(port)) for _ in range(64)]
            with pytest.raises(OSError):  # noqa: PT011 - whatever it looks like from outside
                silent.enter_context(silence(port))
            if port == status["rest_port"]:
                with remote(service, made.json()["token"]) as client:
                    assert ask(client, "GET", "/status").status_code == 200
            else:
                assert asyncio.run(_ask(token(service, "kappa"), REQUEST))[1].error is None
            assert has_ended(connections[0]), "the one that waited longest made room"


def test_every_route_that_the_service_has_is_in_a_rule(service: Service) -> None:
    """What is in none is an administrator's: safe, but then a viewer cannot see it."""
    shown = [p for p, ways in service.get("/openapi.json")["paths"].items() if "get" in ways]
    patterns = [pattern for methods, pattern, _ in RULES if methods == READING]
    assert [p for p in shown if not any(re.fullmatch(one, p) for one in patterns)] == []
