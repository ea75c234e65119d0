"""Plans and the policy of the network, asked of a real service with scripted agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.unit.nco_kit import Agent, Network, Service, eventually, intent, make_module, network


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("nco"), "h1", "dns", "mb") as made:
        yield made


@pytest.fixture
def service(shared: Network) -> Iterator[Service]:
    yield shared.service
    policy(shared.service, {}).raise_for_status()
    shared.reset()


@pytest.fixture
def agents(shared: Network, service: Service) -> dict[str, Agent]:
    return shared.agents


def put(service: Service, body: dict[str, Any]) -> httpx.Response:
    with service.client() as client:
        return client.put(f"/intents/{body['name']}", json=body)


def ask_plan(service: Service, said: dict[str, Any]) -> Any:  # noqa: ANN401
    with service.client() as client:
        return client.post("/intents/plan", json=said).raise_for_status().json()


def wait_for_active(service: Service, name: str = "tag") -> None:
    eventually(lambda: service.get(f"/intents/{name}")["phase"] == "active", "active")


def policy(service: Service, said: dict[str, Any], *, force: bool = False) -> httpx.Response:
    with service.client() as client:
        return client.put(f"/policy?force={force}", json=said)


def test_a_policy_holds_for_what_comes_and_what_runs(
    service: Service, agents: dict[str, Agent]
) -> None:
    assert policy(service, {"security": {"challenge_every": "30s"}}).status_code == 200
    plan = ask_plan(service, intent())
    assert plan["stricter"] == ["challenged: every 30s instead of never"]
    assert "challenged every 30s" in plan["security"]
    put(service, intent())
    wait_for_active(service)
    stricter = policy(service, {"security": {"challenge_every": 10}}).json()
    assert stricter["changed"] == {"tag": ["challenged: every 10s instead of every 30s"]}

    denied = {"modules": {"allowed": ["other"]}}
    refused = policy(service, denied)
    assert refused.status_code == 409
    assert (
        "tag (the network's policy allows the modules other: not idle)" in refused.json()["detail"]
    )
    assert service.get("/policy")["security"]["challenge_every"] == 10, "nothing changed"
    assert list(policy(service, denied, force=True).json()["broken"]) == ["tag"]
    eventually(lambda: service.get("/intents") == [], "what contradicts is gone")
    assert put(service, intent()).status_code == 409
    service.restart_after_kill()
    assert service.get("/policy")["modules"]["allowed"] == ["other"]
    assert policy(service, {}).json()["policy"]["modules"]["allowed"] is None
    assert policy(service, {"modules": {"allow": []}}).status_code == 422


def test_a_plan_says_what_is_to_be_compiled(service: Service, agents: dict[str, Agent]) -> None:
    module = "fresh"
    make_module(service.state.path.parent / "modules", module)
    for was_built in (False, True):
        said = intent("fresh", module=module)
        (build,) = ask_plan(service, said)["builds"]
        assert (build["module"], build["target"], build["hosts"]) == (module, "bpf", 2)
        assert build["built"] == was_built
        put(service, said)
        wait_for_active(service, "fresh")
        with service.client() as client:
            client.delete("/intents/fresh").raise_for_status()
        eventually(lambda: service.get("/intents") == [], "gone")


def test_a_plan_of_what_runs_tells_what_is_new(service: Service, agents: dict[str, Agent]) -> None:
    put(service, intent())
    wait_for_active(service)
    same = ask_plan(service, intent())
    assert (same["running"], same["kept"], same["steps"]) == (True, 2, [])
    new = ask_plan(service, intent(client=[{"host": "h1", "process": "curl"}]))
    assert [step["phase"] for step in new["steps"]] == ["receive", "send", "stop_send", "remove"]
    assert [c["match"].get("process") for c in new["steps"][0]["changes"]] == ["curl"]
    assert [c["match"].get("process") for c in new["steps"][3]["changes"]] == ["dig"]


def test_what_an_intent_rotates_to_must_get_on_with_the_others_too(
    service: Service, agents: dict[str, Agent]
) -> None:
    modules = service.state.path.parent / "modules"
    make_module(modules, "second")
    path = modules / "second" / "manifest.toml"
    path.write_text(path.read_text().replace("0x58544147", "0x58544148"))
    put(service, intent())
    turns = intent("turns", module="second", priority=7)
    assert ask_plan(service, turns)["stricter"] == []
    refused = put(service, {**turns, "rotation": {"modules": ["idle"]}})
    assert refused.status_code == 409
    assert "rotation.modules: idle: host h1 could not tell" in refused.json()["detail"]


def label(service: Service, host: str, *put: str, drop: tuple[str, ...] = ()) -> httpx.Response:
    with service.client() as client:
        return client.post(f"/hosts/{host}/labels", json={"put": put, "drop": drop})


def hosts_of(service: Service) -> set[str]:
    view = service.get("/intents/tag")
    return {host["name"] for host in view["hosts"] if host["customizations"]}


def test_a_host_that_gets_a_label_joins_and_one_that_loses_it_leaves(
    service: Service, agents: dict[str, Agent]
) -> None:
    by_label = intent(client=[{"label": "site=B", "process": "dig"}])
    assert "no host is site=B" in put(service, by_label).json()["detail"]
    assert label(service, "h1", "site=B", "role=web").json() == ["role=web", "site=B"]
    put(service, by_label)
    wait_for_active(service)
    assert hosts_of(service) == {"dns", "h1"}
    label(service, "mb", "site=B")
    eventually(lambda: agents["mb"].sends, "mb has joined")
    service.restart_after_kill()
    assert label(service, "h1", "site=A").json() == ["role=web", "site=A"], "one value at a time"
    eventually(lambda: not agents["h1"].applied, "h1 has left")
    eventually(lambda: hosts_of(service) == {"dns", "mb"}, "h1 is out of the intent")
    assert agents["mb"].sends
    policy(service, {"endpoints": {"deny": ["site=B"]}}).raise_for_status()
    eventually(lambda: not agents["mb"].applied, "the policy keeps intents off mb")
    assert label(service, "mb", drop=("site",)).json() == []
    assert label(service, "h1", drop=("site", "role")).json() == []


@pytest.mark.parametrize(
    ("host", "labels", "status"),
    [("nobody", ["a=b"], 404), ("h1", ["a"], 422), ("h1", ["a=b", "a=c"], 422), ("h1", [], 200)],
)
def test_labels_that_cannot_be(
    service: Service, agents: dict[str, Agent], host: str, labels: list[str], status: int
) -> None:
    assert label(service, host, *labels).status_code == status


def test_a_host_has_so_many_labels(service: Service, agents: dict[str, Agent]) -> None:
    assert label(service, "h1", *[f"a{n}=x" for n in range(64)]).status_code == 200
    assert "at most 64" in label(service, "h1", "b=x").json()["detail"]
    assert label(service, "h1", drop=tuple(f"a{n}" for n in range(64))).json() == []
