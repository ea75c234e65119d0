"""Monitoring on real parts: dig's own flow, what happens as events, metrics, a dead service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mininet_topos.processes import wait_until
from mininet_topos.testbed import DNS_ADDRESS, SCRIPTS, WEB_ADDRESS, Testbed
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

INTENT = "tag-dns"
APPLY = (
    *("apply", "dns_app_tag", "--name", INTENT),
    *("--client", "h1:dig", "--server", "dns:dnsmasq", "--port", "53"),
)


@pytest.fixture(scope="module")
def watched(testbed: Testbed) -> Iterator[subprocess.Popen[str]]:
    """Follow the intent from before it is there."""
    with subprocess.Popen(
        [str(SCRIPTS / "nco"), "watch", INTENT],
        env=testbed.operator_environment(),
        stdout=(testbed.folder / "watch.txt").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        wait_until(lambda: samples(testbed)["l45_nco_event_listeners",] == 1, "nco watch listens")
        testbed.nco(*APPLY)
        yield process
        process.kill()


def samples(testbed: Testbed) -> dict[tuple[str, ...], float]:
    """Return the service's metrics, by name and values of labels."""
    socket = str(testbed.state / "run" / "rest.sock")
    command = ["curl", "--silent", "--show-error", "--unix-socket", socket, "http://nco/metrics"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def flows(testbed: Testbed, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = testbed.rest("flows", *options)
    return found


def asking(testbed: Testbed) -> list[dict[str, Any]]:
    """Return the flow on which dig has asked; dig may open other sockets."""
    found = flows(testbed, "--host", "h1", "--process", "dig", "--intent", INTENT, "--open")
    return [flow for flow in found if flow["customizations"][0]["counters"]["sent"]]


def test_the_flow_of_dig_is_shown_with_its_owner(
    testbed: Testbed, watched: subprocess.Popen[str]
) -> None:
    os.kill(testbed.dnsmasq.popen.pid, signal.SIGSTOP)  # dig's socket stays open while it waits
    try:
        dig = testbed.spawn(
            "h1", "dig", ["dig", "+time=20", "+tries=1", f"@{DNS_ADDRESS}", "slow.example.org"]
        )
        wait_until(lambda: bool(asking(testbed)), "h1 tells of dig's flow")
        (flow,) = asking(testbed)
    finally:
        os.kill(testbed.dnsmasq.popen.pid, signal.SIGCONT)
    wait_until(lambda: WEB_ADDRESS in dig.tail(), "dig is answered")
    assert (flow["process"], flow["uid"]) == ("dig", os.getuid())
    assert (flow["transport"], flow["remote"], flow["remote_port"]) == ("udp", DNS_ADDRESS, 53)
    assert flow["local_port"] > 0
    assert flow["tgid"] > 0
    (counted,) = flow["customizations"]
    assert counted["counters"]["sent"] == 1
    wait_until(lambda: not flows(testbed, "--host", "h1", "--open"), "dig's flow has ended")
    shown = testbed.nco("flows", "--host", "h1").stdout
    assert "dig" in shown
    assert "ended" in shown


def test_counters_are_there_and_metrics_agree(
    testbed: Testbed, watched: subprocess.Popen[str]
) -> None:
    def sent() -> float:
        return samples(testbed).get(("l45_nco_intent_messages_total", INTENT, "sent"), 0.0)

    before = sent()
    for _ in range(5):
        assert testbed.dig("h1") == WEB_ADDRESS
    wait_until(lambda: sent() == before + 5, "five more queries are counted")
    found = samples(testbed)
    assert found["l45_nco_agents_connected",] == len(testbed.hosts)
    assert found["l45_nco_intents", "active"] == 1
    assert found["l45_nco_hosts_unconfirmed",] == 0


def test_a_killed_service_forgets_nothing_and_watching_goes_on(
    testbed: Testbed, watched: subprocess.Popen[str]
) -> None:
    before = testbed.rest("history", INTENT)
    assert [event["phase"] for event in before if event["host"] is None][-1] == "active"
    old = testbed.service_pid()
    os.kill(old, signal.SIGKILL)
    wait_until(
        lambda: testbed.nco("status", check=False).returncode == 0, "the service is back", 30
    )
    assert testbed.service_pid() != old
    testbed.wait_for_agents()
    assert testbed.rest("history", INTENT)[: len(before)] == before
    testbed.nco("revoke", INTENT)
    told = testbed.folder / "watch.txt"
    wait_until(lambda: "nothing of it is left on any host" in told.read_text(), "that is watched")
    text = told.read_text()
    assert "the service is away" in text
    for line in ("module dns_app_tag", "every host has confirmed", "revoked"):
        assert line in text
    watched.send_signal(signal.SIGINT)
    assert watched.wait(PATIENCE) == 0, "Ctrl-C is a clean end"
    kinds = {json.dumps(event["kind"]) for event in testbed.rest("events")}
    assert {'"intent"', '"host"', '"audit"'} <= kinds
    (sample, *_) = testbed.rest("counters", INTENT)
    assert sample["counters"]
