"""Monitoring in the service as a process: REST, server-sent events, metrics, restarts."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.monitor_kit import flow
from tests.unit.nco_kit import (
    Agent,
    Network,
    Service,
    eventually,
    intent,
    make_state,
    network,
    running,
)
from tests.waiting import PATIENCE
from wire.messages import Counters, Flow, FlowCustomization, Flows


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Network]:
    with network(tmp_path, "h1", "dns") as made:
        yield made


def apply(service: Service) -> None:
    with service.client() as client:
        client.put("/intents/tag", json=intent()).raise_for_status()
    eventually(lambda: service.get("/intents/tag")["phase"] == "active", "tag is active")


def metrics(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Reader:
    """Reads events in a thread of its own."""

    def __init__(self, service: Service, last: int | None = None, query: str = "") -> None:
        self.events: list[dict[str, Any]] = []
        self._service = service
        self._headers = {"Last-Event-ID": str(last)} if last is not None else {}
        self._query = query
        self._reads = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._reads.wait(PATIENCE)

    def _read(self) -> None:
        path = f"/events{self._query}"
        try:
            with (
                self._service.client() as client,
                client.stream("GET", path, headers=self._headers) as answer,
            ):
                self._reads.set()
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.events.append(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError:
            return  # the service was killed

    def texts(self, **wanted: str | None) -> list[str]:
        return [
            event["text"]
            for event in list(self.events)
            if all(event[name] == value for name, value in wanted.items())
        ]


def flow_of(agent: Agent, number: int, sent: int) -> Flow:
    (one,) = agent.applied
    counted = FlowCustomization(id=one, counters=Counters(sent=sent))
    return flow(number).model_copy(update={"customizations": [counted]})


def test_what_happens_is_told_stored_and_outlives_the_service(made: Network) -> None:
    service, agents = made.service, made.agents
    reader = Reader(service, query="?intent=tag")
    apply(service)
    eventually(lambda: "every host has confirmed" in reader.texts(phase="active"), "the last event")
    assert {event["host"] for event in reader.events} == {None, "h1", "dns"}
    assert {event["kind"] for event in reader.events} == {"intent"}

    agents["h1"]._send(Flows(flows=[flow_of(agents["h1"], 7, sent=3)]))
    (seen,) = eventually(lambda: service.get("/flows?intent=tag&process=dig&open=true"), "a flow")
    assert (seen["host"], seen["uid"], seen["remote_port"]) == ("h1", 0, 53)
    assert seen["customizations"][0]["counters"]["sent"] == 3
    agents["dns"].stop()
    eventually(lambda: service.get("/alerts"), "the lost host is an alert")

    told = service.get("/intents/tag/history")
    last = max(event["id"] for event in reader.events)
    service.restart_after_kill()
    assert service.get("/intents/tag/history")[: len(told)] == told
    assert [event["text"] for event in service.get("/intents/tag")["history"]]
    assert service.get("/flows?intent=tag")[0]["number"] == 7
    (alert,) = service.get("/alerts")
    assert (alert["kind"], alert["subject"]) == ("host-lost", "dns")

    resumed = Reader(service, last)
    with Agent(service, "dns", "10.10.0.3"):
        eventually(lambda: service.get("/alerts") == [], "the host is back")
        eventually(lambda: resumed.texts(kind="alert"), "that is told")
    numbers = [event["id"] for event in resumed.events]
    assert numbers == sorted(set(numbers))
    assert all(number > last for number in numbers)
    assert any("raised" in text for text in resumed.texts(kind="alert")), "that, too, was stored"


def test_metrics_have_an_address_of_their_own_where_it_is_set(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    with state.config.open("a", encoding="utf-8") as file:
        file.write('metrics = "127.0.0.1:0"\n[retention]\nevents_days = 3\n')
    with running(state) as service:
        told = eventually(
            lambda: re.search(r"metrics on (http://\S+)", service.log.read_text()), "it is told"
        )
        answer = httpx.get(told[1], timeout=PATIENCE)
        assert metrics(answer.text)["l45_nco_hosts",] == 0
