"""The whole chain on real parts: intent, deployment, tagged queries, mirror, failures, revocation.

The tests of this file share one testbed and follow each other; each leaves the intent applied.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mininet_topos.analyst import Analyst, Packet
from mininet_topos.processes import wait_until
from mininet_topos.testbed import WEB_ADDRESS, ZONE, Testbed

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

INTENT = "tag-dns"
APPLY = (
    *("apply", "dns_app_tag", "--name", INTENT),
    *("--client", "h1:dig", "--server", "dns:dnsmasq", "--port", "53", "--mirror", "mb"),
)


@pytest.fixture(scope="module")
def middlebox(testbed: Testbed) -> Iterator[Analyst]:
    analyst = Analyst(testbed, "mb")
    analyst.start()
    yield analyst
    analyst.stop()


@pytest.fixture
def applied(testbed: Testbed, middlebox: Analyst) -> str:
    """Apply the intent, or find it active; return what `nco apply` printed."""
    return testbed.nco(*APPLY).stdout


def queries(middlebox: Analyst, names: set[str]) -> dict[str, Packet]:
    """Return the query for each name once the middlebox has seen them all."""
    found: dict[str, Packet] = {}

    def all_seen() -> bool:
        found.update({p.name: p for p in middlebox.packets() if p.name in names and not p.response})
        return found.keys() == names

    wait_until(all_seen, f"the middlebox sees the queries for {sorted(names)}")
    return found


def test_only_the_intended_process_is_tagged(
    testbed: Testbed, middlebox: Analyst, applied: str
) -> None:
    names = {who: f"{who}-{time.monotonic_ns()}.{ZONE}" for who in ("dig1", "nslookup1", "dig2")}
    assert testbed.dig("h1", names["dig1"]) == WEB_ADDRESS
    assert WEB_ADDRESS in testbed.nslookup("h1", names["nslookup1"])
    assert testbed.dig("h2", names["dig2"]) == WEB_ADDRESS
    seen = queries(middlebox, set(names.values()))
    assert {who: seen[name].application for who, name in names.items()} == {
        "dig1": "dig",
        "nslookup1": "",
        "dig2": "",
    }
    assert all(packet.protocol == "DNS" for packet in seen.values())


def test_dnsmasq_sees_a_plain_query(testbed: Testbed, applied: str) -> None:
    assert testbed.dig("h1", f"plain.{ZONE}") == WEB_ADDRESS
    assert f"query[A] plain.{ZONE} from {testbed.address('h1')}" in testbed.dnsmasq.tail()


def test_convergence_is_shown_receive_before_send(applied: str, testbed: Testbed) -> None:
    shown = testbed.nco("show", INTENT).stdout
    assert "active" in shown
    assert "h1" in shown
    assert "dns" in shown


def test_mirror_entries_carry_our_cookie_and_count(testbed: Testbed, applied: str) -> None:
    testbed.dig("h1")

    def mirrored() -> list[str]:
        lines = testbed.flows("s1").splitlines()
        ours = re.compile(r"cookie=0x4c34\w*,.*table=0,.*udp.*output")
        return [line for line in lines if ours.search(line)]

    assert len(mirrored()) == 2, testbed.flows("s1")
    assert all("goto_table:1" in line for line in mirrored())
    wait_until(
        lambda: all(not re.search(r"n_packets=0,", line) for line in mirrored()),
        "both mirror entries count packets",
    )


def test_killed_agents_lose_nothing_and_adopt(
    testbed: Testbed, middlebox: Analyst, applied: str
) -> None:
    names = [f"k{number}-{time.monotonic_ns()}.{ZONE}" for number in range(12)]
    for number, name in enumerate(names):
        if number == 3:
            testbed.agents["h1"].kill()
            testbed.agents["dns"].kill()
        if number == 8:
            testbed.start_agent("h1")
            testbed.start_agent("dns")
        assert testbed.dig("h1", name) == WEB_ADDRESS
    seen = queries(middlebox, set(names))
    assert {packet.application for packet in seen.values()} == {"dig"}
    testbed.wait_for_agents()


def test_killed_service_comes_back_from_the_cib(
    testbed: Testbed, middlebox: Analyst, applied: str
) -> None:
    before = testbed.service_pid()
    os.kill(before, signal.SIGKILL)
    name = f"s{time.monotonic_ns()}.{ZONE}"
    assert testbed.dig("h1", name) == WEB_ADDRESS
    assert queries(middlebox, {name})[name].application == "dig"
    wait_until(
        lambda: testbed.nco("status", check=False).returncode == 0, "the service is back", 30
    )
    assert testbed.service_pid() != before
    testbed.wait_for_agents()
    assert "active" in testbed.nco("show", INTENT).stdout
    assert testbed.dig("h1") == WEB_ADDRESS


def test_killed_ryu_leaves_the_service_to_its_successor(
    testbed: Testbed, middlebox: Analyst, applied: str
) -> None:
    before = testbed.service_pid()
    assert testbed.ryu
    testbed.ryu.kill()
    testbed.start_nco()
    assert testbed.service_pid() == before
    wait_until(lambda: _mirror_state(testbed) == "installed", "the mirror is reported installed")
    name = f"r{time.monotonic_ns()}.{ZONE}"
    assert testbed.dig("h1", name) == WEB_ADDRESS
    assert queries(middlebox, {name})[name].application == "dig"


def _mirror_state(testbed: Testbed) -> str:
    (mirror,) = testbed.rest("show", INTENT)["mirrors"]
    return str(mirror["state"])


def test_an_entry_deleted_by_hand_comes_back(testbed: Testbed, applied: str) -> None:
    wait_until(lambda: _mirror_state(testbed) == "installed", "the mirror is installed")
    delete = ["ovs-ofctl", "-O", "OpenFlow13", "del-flows", "s1", "table=0,udp"]
    subprocess.run(delete, check=True)
    wait_until(lambda: "tp_dst=53" in testbed.flows("s1"), "the mirror entry is there again")


def test_revoked_intent_leaves_plain_dns(testbed: Testbed, applied: str) -> None:
    testbed.nco("revoke", INTENT)
    wire = Analyst(testbed, "dns")
    wire.start()
    assert testbed.dig("h1", f"after.{ZONE}") == WEB_ADDRESS
    assert [packet.application for packet in wire.wait_for(2)] == ["", ""]
    wire.stop()
    wait_until(lambda: "tp_dst=53" not in testbed.flows("s1"), "the mirror is gone")
    shown = testbed.nco("show", INTENT, check=False)
    assert shown.returncode != 0
    assert INTENT in shown.stdout + shown.stderr


def test_hosts_join_by_label_and_leave_by_policy(
    testbed: Testbed, middlebox: Analyst, tmp_path: Path
) -> None:
    testbed.nco("host", "label", "h1", "site=B")
    by_label = ("--client", "site=B:dig", "--server", "dns:dnsmasq", "--mirror", "mb")
    testbed.nco("apply", "dns_app_tag", "--name", "by-label", *by_label)
    assert _applications(testbed, middlebox) == {"h1": "dig", "h2": ""}
    testbed.nco("host", "label", "h2", "site=B")
    wait_until(lambda: _sends(testbed, "by-label", "h2"), "h2 has joined")
    assert _applications(testbed, middlebox) == {"h1": "dig", "h2": "dig"}
    policy = tmp_path / "policy.toml"
    policy.write_text('[endpoints]\ndeny = ["h1"]\n', encoding="utf-8")
    assert "host h1 is left out" in testbed.nco("policy", "set", str(policy)).stdout
    wait_until(lambda: not _sends(testbed, "by-label", "h1"), "h1 has left")
    assert _applications(testbed, middlebox) == {"h1": "", "h2": "dig"}
    testbed.nco("revoke", "by-label")
    policy.write_text("", encoding="utf-8")
    testbed.nco("policy", "set", str(policy))


def _applications(testbed: Testbed, middlebox: Analyst) -> dict[str, str | None]:
    """Have both clients ask; return which application the middlebox saw in each one's query."""
    names = {host: f"{host}-{time.monotonic_ns()}.{ZONE}" for host in ("h1", "h2")}
    for host, name in names.items():
        assert testbed.dig(host, name) == WEB_ADDRESS
    seen = queries(middlebox, set(names.values()))
    return {host: seen[name].application for host, name in names.items()}


def _sends(testbed: Testbed, intent: str, host: str) -> bool:
    """Whether a host says that it sends for an intent."""
    there = {view["name"]: view for view in testbed.rest("show", intent)["hosts"]}
    return any(item["send"] for item in there.get(host, {}).get("customizations", ()))
