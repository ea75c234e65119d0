"""Rotation and PostgreSQL on the real service, with scripted agents over TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.config import StateFolder
from tests import postgres
from tests.unit.databases import needs_postgresql
from tests.unit.nco_kit import (
    ADDRESSES,
    Agent,
    Network,
    Service,
    eventually,
    intent,
    make_module,
    make_state,
    network,
)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Network]:
    with network(tmp_path, "h1", "dns") as made:
        make_module(tmp_path / "modules", "other")
        yield made


def call(service: Service, method: str, path: str, body: object = None) -> httpx.Response:
    with service.client() as client:
        return client.request(method, path, json=body)


def active(service: Service, module: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        view: dict[str, Any] = service.get("/intents/tag")
        done = [(one["module"], one["phase"]) for one in view["deployments"]]
        return view if done == [(module, "active")] else None

    found: dict[str, Any] = eventually(look, f"{module} alone")
    return found


def test_a_rotation_outlives_the_service(own: Network) -> None:
    service, agents = own.service, own.agents
    call(service, "PUT", "/intents/tag", intent()).raise_for_status()
    active(service, "idle")
    agents["dns"].holds.set()
    begun = call(service, "POST", "/intents/tag/rotate", {"module": "other"})
    assert begun.status_code == 202
    assert [one["kind"] for one in begun.json()["deployments"]] == ["first", "rotation"]
    eventually(lambda: list(service.get("/intents/tag")["waiting"]) == ["dns"], "waits for dns")
    again = call(service, "POST", "/intents/tag/rotate", {"module": "idle"})
    assert again.status_code == 409
    assert "being rotated" in again.json()["detail"]
    service.restart_after_kill()
    assert {c.module for c in agents["h1"].applied.values() if c.send} == {"idle"}
    agents["dns"].holds.clear()
    view = active(service, "other")
    assert view["phase"] == "active"
    assert [c.module for c in agents["h1"].applied.values()] == ["other"]
    assert call(service, "DELETE", "/intents/tag/rotation").status_code == 409
    assert call(service, "DELETE", "/hosts/h1").status_code == 409
    assert call(service, "POST", "/intents/none/rotate", {}).status_code == 404
    assert call(service, "POST", "/intents/tag/priority", {"priority": 9}).json()["priority"] == 9
    assert call(service, "POST", "/intents/tag/deprecate", {"on": True}).json()["deprecated"]
    eventually(lambda: all(c.deprecated for c in agents["h1"].applied.values()), "deprecated")
    call(service, "POST", "/intents/tag/activate", {"on": False}).raise_for_status()
    eventually(lambda: service.get("/intents/tag")["phase"] == "inactive", "inactive")
    without = service.get("/intents/tag?hosts=false")
    assert without["hosts"] == []


def nco(state: StateFolder, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controller.cli", *arguments]
    environment = {**os.environ, "L45_STATE": str(state.path)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_rotate_on_the_command_line(own: Network) -> None:
    state = own.service.state
    call(own.service, "PUT", "/intents/tag", intent()).raise_for_status()
    active(own.service, "idle")
    done = nco(state, "rotate", "tag", "--module", "other")
    assert done.returncode == 0, done.stderr
    assert "tag has other" in done.stdout
    assert "every host can receive" in done.stdout
    done = nco(state, "rotate", "tag", "--module", "none")
    assert done.returncode == 1
    assert "none" in done.stderr
    own.agents["dns"].refusal = "no room"
    done = nco(state, "rotate", "tag")
    assert done.returncode == 1
    assert "no room" in done.stderr
    assert "tag is as before" in done.stderr
    own.agents["dns"].refusal = None
    assert "priority 7" in nco(state, "priority", "tag", "7").stdout
    shown = nco(state, "show", "tag").stdout
    assert "module other" in shown
    assert "error: rotation failed: host dns: no room" in shown


@needs_postgresql
def test_postgresql_by_one_setting(tmp_path: Path, postgresql: postgres.Server) -> None:
    with network(tmp_path, "h1", "dns", settings=f'database = "{postgresql.url()}"\n') as made:
        service = made.service
        call(service, "PUT", "/intents/tag", intent()).raise_for_status()
        active(service, "idle")
        service.restart_after_kill()
        active(service, "idle")
        assert not service.state.database.exists()
        second = make_state(tmp_path / "second")
        with second.config.open("a") as file:
            file.write(f'database = "{postgresql.url()}"\n')
        command = [sys.executable, "-m", "controller.service", "--state", str(second.path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == os.EX_CONFIG
        assert "another service's" in ended.stderr

        postgresql.stop()
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1, "the Ryu application tries again"
        assert "cannot be opened" in ended.stderr
        refused = call(service, "DELETE", "/intents/tag")
        assert refused.status_code == 503
        assert "database cannot be written" in refused.json()["detail"]
        assert service.get("/status")["hosts_connected"] == 2, "the agents notice nothing"
        postgresql.start()
        eventually(lambda: call(service, "DELETE", "/intents/tag").status_code == 202, "again")
        eventually(lambda: service.get("/intents") == [], "gone")


def test_a_server_that_moves_is_followed(own: Network) -> None:
    service, agents = own.service, own.agents
    call(service, "PUT", "/intents/tag", intent()).raise_for_status()
    active(service, "idle")
    agents["dns"].stop()
    with Agent(service, "dns", "10.10.0.33"):

        def followed() -> bool:
            there = [str(c.match.remote) for c in agents["h1"].applied.values() if c.send]
            return there == ["10.10.0.33/32"]

        eventually(followed, "h1 sends where dns is now")


def test_a_server_that_is_not_where_the_intent_says_is_an_alert(own: Network) -> None:
    service, agents = own.service, own.agents
    there = intent(server=[{"host": "dns", "address": ADDRESSES["dns"]}])
    call(service, "PUT", "/intents/tag", there).raise_for_status()
    active(service, "idle")
    agents["dns"].stop()
    with Agent(service, "dns", "10.10.0.33"):
        why = eventually(lambda: service.get("/intents/tag")["unfollowed"], "it says why not")
        assert "host dns does not have address 10.10.0.3" in why

        def alerts() -> list[str]:
            return [alert["kind"] for alert in service.get("/alerts")]

        eventually(lambda: "unfollowed" in alerts(), "an alert")
        call(service, "DELETE", "/intents/tag").raise_for_status()
        eventually(lambda: "unfollowed" not in alerts(), "it is cleared")
