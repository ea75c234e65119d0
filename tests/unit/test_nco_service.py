"""The service as a process: real REST, real TLS, scripted agents."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.unit.nco_kit import (
    Agent,
    Network,
    Service,
    eventually,
    intent,
    make_module,
    make_state,
    network,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("nco"), "h1", "dns") as made:
        yield made


@pytest.fixture
def service(shared: Network) -> Iterator[Service]:
    yield shared.service
    shared.reset()


@pytest.fixture
def agents(shared: Network, service: Service) -> dict[str, Agent]:
    return shared.agents


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Network]:
    """A network for a test that stops a part of it."""
    with network(tmp_path, "h1", "dns") as made:
        yield made


def put(service: Service, body: dict[str, object]) -> httpx.Response:
    with service.client() as client:
        return client.put(f"/intents/{body['name']}", json=body)


def delete(service: Service, name: str) -> httpx.Response:
    with service.client() as client:
        return client.delete(f"/intents/{name}")


def phase(service: Service, name: str = "tag") -> str:
    return str(service.get(f"/intents/{name}")["phase"])


def wait_for(service: Service, wanted: str, name: str = "tag") -> None:
    eventually(lambda: phase(service, name) == wanted, f"phase {wanted}")


def test_an_intent_goes_up_and_down_again(service: Service, agents: dict[str, Agent]) -> None:
    assert put(service, intent()).status_code == 201
    wait_for(service, "active")
    view = service.get("/intents/tag")
    by_host = {host["name"]: host for host in view["hosts"]}
    (client,) = by_host["h1"]["customizations"]
    (server,) = by_host["dns"]["customizations"]
    assert (client["receive"], client["send"]) == (False, True)
    assert (server["receive"], server["send"]) == (True, False)
    assert client["match"]["remote"] == "10.10.0.3/32"
    assert client["match"]["remote_port"] == 53
    assert server["match"]["local_port"] == 53
    assert client["counters"]["sent"] == 3
    assert agents["h1"].sends
    assert put(service, intent()).status_code == 200

    assert delete(service, "tag").status_code == 202
    wait_for(service, "gone")
    assert agents["h1"].applied == agents["dns"].applied == {}
    assert service.get("/intents") == []
    history = [event["phase"] for event in view["history"] if event["host"] is None]
    assert history[-4:] == ["building", "receive", "send", "active"]


def test_sockets_and_folder_are_private(service: Service) -> None:
    run = service.state.run
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    for path in (service.state.rest_socket, service.state.switches_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.state.database.stat().st_mode) == 0o600


def test_a_refusing_host_fails_the_intent_and_nothing_stays(
    service: Service, agents: dict[str, Agent]
) -> None:
    agents["dns"].refusal = "the verifier says no"
    put(service, intent())
    wait_for(service, "failed")
    assert "host dns: the verifier says no" in service.get("/intents/tag")["error"]
    assert agents["h1"].applied == {}
    assert not any(c.send for desired in agents["h1"].seen for c in desired.customizations)
    agents["dns"].refusal = None
    assert put(service, intent()).status_code == 201, "what failed may be tried again"
    wait_for(service, "active")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"module": "nonsense"}, 422, "modules in"),
        ({"server": [{"host": "nowhere"}]}, 422, "dns, h1"),
        ({"client": [{"host": "h1", "process": "systemd-resolved"}]}, 422, "systemd-resolve'"),
        ({"client": []}, 422, "client"),
        ({"parameters": {"x": 1}}, 422, "no parameter 'x'"),
        ({"middlebox": {"host": "box"}}, 422, "no host 'box'"),
        ({"surprise": 1}, 422, "surprise"),
        ({"server": [{"host": "dns", "address": "10.9.9.9"}]}, 422, "10.10.0.3"),
    ],
)
def test_bad_intents_are_refused_with_what_to_do(
    service: Service,
    agents: dict[str, Agent],
    change: dict[str, object],
    status: int,
    words: str,
) -> None:
    answer = put(service, intent(**change))
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert service.get("/intents") == []


def test_conflicts_are_refused(service: Service, agents: dict[str, Agent]) -> None:
    put(service, intent())
    wait_for(service, "active")
    other = put(service, intent(port=5353))
    assert other.status_code == 409
    assert "nco revoke tag" in other.json()["detail"]
    rival = put(service, intent("rival"))
    assert rival.status_code == 409
    assert "'rival' and 'tag'" in rival.json()["detail"]
    assert "for example, udp 10.10.0.1:" in rival.json()["detail"]
    again = put(service, intent("again", priority=50))
    assert again.status_code == 409, "the same wire form twice on a flow"
    apart = intent("apart", client=[{"host": "h1", "process": "curl"}])
    assert put(service, apart).status_code == 201
    assert delete(service, "unknown").status_code == 404


def test_a_plan_changes_nothing(service: Service, agents: dict[str, Agent]) -> None:
    with service.client() as client:
        plan = client.post("/intents/plan", json=intent()).raise_for_status().json()
    assert [step["phase"] for step in plan["steps"]] == ["receive", "send"]
    assert [(c["host"], c["receive"], c["send"]) for c in plan["steps"][0]["changes"]] == [
        ("dns", True, False),
        ("h1", False, False),
    ]
    assert [(c["host"], c["send"]) for c in plan["steps"][1]["changes"]] == [("h1", True)]
    assert service.get("/intents") == []


def test_a_module_that_does_not_compile_fails_with_the_compilers_words(
    service: Service, agents: dict[str, Agent]
) -> None:
    make_module(service.state.path.parent / "modules", "broken", "int broken(void) { return x; }\n")
    put(service, intent(module="broken"))
    wait_for(service, "failed")
    assert "use of undeclared identifier 'x'" in service.get("/intents/tag")["error"]
    assert all(not desired.customizations for desired in agents["h1"].seen)


def test_a_long_request_is_refused(service: Service) -> None:
    with service.client() as client:
        answer = client.put("/intents/tag", content=b" " * (1024 * 1024 + 1))
        assert answer.status_code == 413
        assert client.put("/intents/tag", content=b"not json").status_code == 422


def test_an_intent_waits_for_a_host_that_is_away(own: Network) -> None:
    service, agents = own.service, own.agents
    agents["dns"].stop()
    eventually(lambda: not service.get("/hosts")[0]["connected"], "dns is away")
    put(service, intent())
    wait_for(service, "receive")
    eventually(lambda: list(service.get("/intents/tag")["waiting"]) == ["dns"], "waits for dns")
    assert not agents["h1"].sends
    with Agent(service, "dns", "10.10.0.3"):
        wait_for(service, "active")


def test_a_killed_service_goes_on_where_it_was(own: Network) -> None:
    service, agents = own.service, own.agents
    agents["dns"].holds.set()
    put(service, intent())
    eventually(lambda: list(service.get("/intents/tag")["waiting"]) == ["dns"], "waits for dns")
    before = {host["name"]: host["generation_wanted"] for host in service.get("/hosts")}
    service.restart_after_kill()
    assert phase(service) == "receive"
    agents["dns"].holds.clear()
    wait_for(service, "active")

    agents["h1"].holds.set()
    delete(service, "tag")
    wait_for(service, "stop_send")
    service.restart_after_kill()
    assert agents["dns"].applied, "the server still understands what h1 may send"
    agents["h1"].holds.clear()
    wait_for(service, "gone")
    after = {host["name"]: host["generation_wanted"] for host in service.get("/hosts")}
    assert all(after[name] > before[name] for name in before)
    for agent in agents.values():
        generations = [desired.generation for desired in agent.seen]
        assert generations == sorted(generations)


def test_a_second_service_says_who_holds_the_folder(service: Service) -> None:
    assert service.process is not None
    command = [sys.executable, "-m", "controller.service", "--state", str(service.state.path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == os.EX_CONFIG
    assert f"by the process {service.process.pid}" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(own: Network, number: int) -> None:
    assert own.service.stop(number) == 0
    assert "Traceback" not in own.service.log.read_text()


def test_it_leaves_when_no_application_comes(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    command = [sys.executable, "-m", "controller.service", "--state", str(state.path)]
    ended = subprocess.run(
        [*command, "--grace", "0.5"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "no Ryu application" in ended.stderr


def test_bad_settings_are_named(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    with state.config.open("a") as file:
        file.write("surprise = 1\n")
    command = [sys.executable, "-m", "controller.service", "--state", str(state.path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == os.EX_CONFIG
    assert "nco.toml: surprise" in ended.stderr
