"""The NCO's CA is replaced at a real service, over real TLS: sessions go on, hosts come back."""

from __future__ import annotations

import asyncio
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from host_agent.enrol import EnrolmentError, enrol
from mininet_topos.ports import free_port
from tests.unit.nco_kit import Agent, Service, credentials, eventually, make_state, running
from tests.unit.test_trust_service import (
    Host,
    ask,
    audit,
    call,
    enrolled,
    greet,
    remote,
    token,
)
from wire.identity import Credentials


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    state = make_state(tmp_path)
    text = state.config.read_text().replace(
        'listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{free_port()}"'
    )
    state.config.write_text(f'{text}enrol = "127.0.0.1:0"\nrest = "127.0.0.1:0"\n')
    with running(state) as service:
        yield service


class Alive:
    """A host whose agent's channel and renewal run in a thread, as long as the block."""

    def __init__(self, service: Service, who: Credentials, name: str) -> None:
        self.name = name
        self.host = Host(service, who, name)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self.host.run(self._end.is_set))

    def __enter__(self) -> Alive:
        self._thread.start()
        eventually(lambda: self.host.sessions, f"{self.name} is connected")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(60)


def view(service: Service) -> dict[str, Any]:
    return dict(service.get("/ca"))


def step(service: Service, what: str) -> httpx.Response:
    now = view(service)
    asked = {"step": what, "phase": now["phase"], "goes_back": now["goes_back"]}
    return call(service, "POST", "/ca", json=asked)


def phase(service: Service) -> str | None:
    found = view(service)["phase"]
    return None if found is None else str(found)


def missing(service: Service) -> set[str]:
    return {one["host"] for one in view(service)["missing"]}


def certificates(who: Credentials) -> int:
    return who.ca.read_text().count("BEGIN CERTIFICATE")


def test_the_ca_is_replaced_under_two_sessions_and_a_host_that_is_away_comes_back(
    service: Service, tmp_path: Path
) -> None:
    here, away = (enrolled(service, name, tmp_path) for name in ("alpha", "beta"))
    gone = enrolled(service, "gamma", tmp_path)
    call(service, "POST", "/hosts/gamma/revoke").raise_for_status()
    before = token(service, "delta")
    old = view(service)["authorities"][0]["fingerprint"]
    with Alive(service, here, "alpha") as alpha:
        with Alive(service, away, "beta"):
            pass  # it was there once
        assert step(service, "begin").status_code == 200
        assert step(service, "begin").status_code == 409
        eventually(lambda: missing(service) == {"beta"}, "alpha trusts both")
        assert phase(service) == "spread"
        asyncio.run(enrol(before, Credentials(tmp_path / "delta")))
        assert missing(service) == {"beta", "delta"}
        assert greet(service, away, "beta")["type"] == "welcome"
        service.restart_after_kill()
        assert phase(service) == "spread"
        assert missing(service) == {"beta", "delta"}

        with Alive(service, Credentials(tmp_path / "delta"), "delta"):
            with Alive(service, away, "beta"):
                eventually(lambda: phase(service) != "spread", "all trust the new one")
            made_meanwhile = token(service, "epsilon")
            with Alive(service, away, "beta"):
                eventually(lambda: phase(service) is None, "nobody has a certificate of the old")
            new = view(service)["authorities"]
            assert [one["fingerprint"] == old for one in new] == [False]
            eventually(lambda: certificates(here) == 1, "alpha is told")
        asyncio.run(enrol(made_meanwhile, Credentials(tmp_path / "epsilon")))
        assert alpha.host.sessions == 2, "one before the service was killed, one after"
    for who, name in ((here, "alpha"), (away, "beta")):
        assert greet(service, who, name)["type"] == "welcome"
    with pytest.raises((OSError, AssertionError)):
        greet(service, gone, "gamma")
    said = " ".join(e["detail"] for e in audit(service) if e["action"] == "CA replaced")
    assert "issues from now on" in said
    assert "is trusted no more" in said
    assert not service.state.ca_rotation.exists()
    assert stat.S_IMODE(service.state.ca_key.stat().st_mode) == 0o600
    credentials(service.state, "zeta").client_context()


def test_tokens_of_before_are_refused_with_the_reason_once_the_new_ca_issues(
    service: Service, tmp_path: Path
) -> None:
    before = token(service, "alpha")
    step(service, "begin").raise_for_status()
    eventually(lambda: phase(service) is None, "there are no hosts to wait for")
    with pytest.raises(EnrolmentError, match="its CA was rotated since"):
        asyncio.run(enrol(before, Credentials(tmp_path / "alpha")))
    enrolled(service, "alpha", tmp_path)


def test_an_agent_that_does_not_say_what_it_trusts_is_missing_and_stays(
    service: Service,
) -> None:
    with Agent(service, "h1", "10.10.0.1"):
        eventually(lambda: "h1" in {h["name"] for h in service.get("/hosts")}, "it is connected")
        sessions = service.sessions
        step(service, "begin").raise_for_status()
        found = view(service)
        assert [one["host"] for one in found["missing"]] == ["h1"]
        assert "older version" in found["missing"][0]["reason"]
        assert found["missing"][0]["connected"]
        answer = step(service, "finish").raise_for_status().json()
        assert [one["host"] for one in answer["left_behind"]] == ["h1"]
        assert answer["phase"] == "retire"
        assert service.sessions == sessions, "it was not cut"
        step(service, "abort").raise_for_status()
        assert view(service)["goes_back"]
        eventually(lambda: phase(service) == "retire", "it trusts what it trusted before")
        step(service, "finish").raise_for_status()
        assert phase(service) is None
        assert greet(service, credentials(service.state, "h1"), "h1")["type"] == "welcome"
    assert step(service, "finish").status_code == 409
    assert step(service, "abort").status_code == 409


def test_a_replacement_that_goes_back_leaves_no_trace(service: Service, tmp_path: Path) -> None:
    away = enrolled(service, "alpha", tmp_path)
    before = service.state.ca_key.read_bytes()
    step(service, "begin").raise_for_status()
    step(service, "abort").raise_for_status()
    assert phase(service) is None
    assert not service.state.ca_rotation.exists()
    assert service.state.ca_key.read_bytes() == before
    assert certificates(service.state.credentials) == 1
    assert greet(service, away, "alpha")["type"] == "welcome"


def test_it_turns_back_when_hosts_have_certificates_of_the_new_one(
    service: Service, tmp_path: Path
) -> None:
    """And who was left behind by force is well again."""
    here, away, behind = (enrolled(service, name, tmp_path) for name in ("alpha", "beta", "gamma"))
    old = view(service)["authorities"][0]["fingerprint"]
    with Alive(service, here, "alpha"):
        with Alive(service, away, "beta"):
            step(service, "begin").raise_for_status()
            eventually(lambda: missing(service) == {"gamma"}, "two trust both")
        answer = step(service, "finish").raise_for_status().json()
        assert [one["host"] for one in answer["left_behind"]] == ["gamma"]
        eventually(lambda: missing(service) == {"beta", "gamma"}, "alpha has a new certificate")
        with pytest.raises(ssl.SSLCertVerificationError):
            greet(service, behind, "gamma")
        service.restart_after_kill()
        step(service, "abort").raise_for_status()
        eventually(lambda: phase(service) is None, "it is as before")
    assert [one["fingerprint"] for one in view(service)["authorities"]] == [old]
    for who, name in ((here, "alpha"), (away, "beta"), (behind, "gamma")):
        assert greet(service, who, name)["type"] == "welcome"


def test_what_was_revoked_stays_revoked_and_what_was_added_offline_is_waited_for(
    service: Service, tmp_path: Path
) -> None:
    added = credentials(service.state, "alpha")
    gone = enrolled(service, "beta", tmp_path)
    call(service, "POST", "/hosts/beta/revoke").raise_for_status()
    step(service, "begin").raise_for_status()
    assert missing(service) == {"alpha"}
    assert "was revoked" in greet(service, gone, "beta")["reason"]
    with Alive(service, added, "alpha"):
        eventually(lambda: phase(service) is None, "alpha was there")
    assert greet(service, added, "alpha")["type"] == "welcome"


def test_callers_by_tls_find_what_to_trust_before_it_is_needed(service: Service) -> None:
    credentials(service.state, "alpha")  # which is waited for
    made = call(service, "POST", "/tokens", json={"name": "see", "role": "viewer"})
    secret = made.json()["token"]
    with remote(service, secret) as client:
        step(service, "begin").raise_for_status()
        for path in (service.state.ca_key, service.state.ca_rotation):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "PRIVATE" not in service.log.read_text() + str(view(service))
        pem = ask(client, "GET", "/ca").raise_for_status().json()["pem"]
        assert ask(client, "POST", "/ca", json={"step": "abort"}).status_code == 403
    assert pem == service.state.credentials.ca.read_text()
    step(service, "finish").raise_for_status()
    context = ssl.create_default_context(cadata=pem)
    url = f"https://127.0.0.1:{service.get('/status')['rest_port']}"
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(verify=context, base_url=url, headers=headers, timeout=60) as client:
        assert ask(client, "GET", "/ca").json()["phase"] == "retire"
