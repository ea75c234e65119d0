"""Challenges at a real service with scripted agents: what fails is gone on both ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nco_kit import ADDRESSES, Agent, Network, eventually, intent, make_state, running


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Three hosts, an intent between two of them, challenged every second."""
    state = make_state(tmp_path)
    with state.config.open("a") as file:
        file.write("challenge_window = 1\n")
    with running(state) as service:
        agents = {name: Agent(service, name, ADDRESSES[name]) for name in ("h1", "dns")}
        with agents["h1"], agents["dns"]:
            eventually(lambda: len(service.get("/hosts")) == 2, "all agents connected")
            made = Network(service, agents)
            apply(made)
            yield made


def apply(network: Network, **changes: Any) -> None:  # noqa: ANN401
    with network.service.client() as client:
        client.put("/intents/tag", json=intent(**changes)).raise_for_status()
    eventually(lambda: network.service.get("/intents/tag")["phase"] == "active", "active")


def challenge(network: Network, name: str) -> dict[str, str]:
    """Return the verdict for each host."""
    with network.service.client() as client:
        answer = client.post("/challenges", json={"name": name}).raise_for_status().json()
    return {one["host"]: one["verdict"] for one in answer}


def gone(network: Network) -> None:
    """Wait until neither end has it, and fail unless it is written down."""
    for agent in network.agents.values():
        eventually(lambda a=agent: not a.applied, f"{agent.name} has lost it")
    entries = network.service.get("/audit")["entries"]
    (failed,) = [entry for entry in entries if entry["action"] == "challenge failed"]
    assert failed["subject"] == "h1"
    assert failed["actor"] == "nco"
    history = network.service.get("/intents/tag")["history"]
    assert any("challenge failed" in event["text"] for event in history)


def test_what_runs_is_proven_for_a_host_and_for_an_intent(network: Network) -> None:
    assert challenge(network, "h1") == {"h1": "passed"}
    assert challenge(network, "tag") == {"h1": "passed", "dns": "passed"}
    with network.service.client() as client:
        answer = client.post("/challenges", json={"name": "nobody"})
    assert answer.status_code == 404
    assert "hosts: dns, h1; intents: tag" in answer.json()["detail"]


def test_other_code_is_found_and_revoked_on_both_ends(network: Network) -> None:
    assert challenge(network, "tag") == {"h1": "passed", "dns": "passed"}
    network.agents["h1"].evidence = b"other tag.other."
    assert challenge(network, "h1") == {"h1": "wrong"}
    gone(network)


def test_silence_is_revoked_on_both_ends(network: Network) -> None:
    network.agents["h1"].evidence = None
    assert challenge(network, "tag") == {"h1": "silent", "dns": "passed"}
    gone(network)


def test_what_was_learnt_outlives_the_service(network: Network) -> None:
    assert challenge(network, "dns") == {"dns": "passed"}
    network.service.restart_after_kill()
    eventually(
        lambda: all(host["connected"] for host in network.service.get("/hosts")), "reconnected"
    )
    network.agents["h1"].evidence = b"other tag.other."
    eventually(lambda: challenge(network, "h1") == {"h1": "wrong"}, "found")
    gone(network)


def test_what_a_revoked_host_taught_is_forgotten(network: Network) -> None:
    network.agents["h1"].evidence = b"swapped before anybody looked..."
    assert challenge(network, "h1") == {"h1": "passed"}
    with network.service.client() as client:
        client.post("/hosts/h1/revoke").raise_for_status()
    for _ in range(2):
        assert challenge(network, "dns") == {"dns": "passed"}
        network.service.restart_after_kill()
        eventually(lambda: network.service.get("/intents/tag")["phase"] == "active", "active")
        eventually(lambda: challenge(network, "dns"), "dns is back")


def test_an_intent_says_how_often(network: Network) -> None:
    with network.service.client() as client:
        client.delete("/intents/tag").raise_for_status()
    eventually(lambda: network.service.get("/intents/tag")["phase"] == "gone", "gone")
    apply(network, security={"challenge_every": "1s"})
    network.agents["h1"].evidence = None
    gone(network)


def test_what_fails_while_the_database_is_locked_is_revoked_after_that(network: Network) -> None:
    service, h1 = network.service, network.agents["h1"]
    with service.client() as client:
        client.delete("/intents/tag").raise_for_status()
        eventually(lambda: service.get("/intents") == [], "gone")
    apply(network, security={"challenge_every": 1})
    with closing(sqlite3.connect(service.state.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        h1.evidence = b"something else."
        eventually(lambda: "is taken back" in service.log.read_text(), "a commit has failed")
        h1.evidence = b"sendtag.recvtag."  # nobody would find it now
        assert h1.applied
    for agent in network.agents.values():
        eventually(lambda a=agent: not a.applied, f"{agent.name} has lost it")
    history = service.get("/intents/tag")["history"]
    assert any("challenge failed" in event["text"] for event in history)
