"""Trust on real parts: enrolment over the switches, certificates of seconds, code that was swapped.

The tests share one testbed and follow each other.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from host_agent.bpf_tables import Tables, place
from mininet_topos.processes import wait_until
from mininet_topos.testbed import SCRIPTS, WEB_ADDRESS, ZONE, Testbed
from wire.identity import Credentials, PeerCertificate

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

INTENT = "tag-dns"
SETTINGS = ("certificate_lifetime = 12", "challenge_window = 3")
APPLY = ("apply", "dns_app_tag", "--name", INTENT, "--client", "h2:dig", "--server", "dns:dnsmasq")


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("trust"), settings=SETTINGS) as running:
        yield running


def serial(credentials: Credentials) -> int:
    certificate = PeerCertificate.read(credentials.certificate.read_bytes())
    assert certificate is not None
    return certificate.serial


def enrol(testbed: Testbed, host: str) -> Credentials:
    """Let a host enrol with a token, over the network, in place of what it had."""
    folder = testbed.credentials / host
    token = testbed.credentials / f"{host}.token"
    testbed.nco("host", "token", host, "--out", str(token))
    if folder.exists():
        shutil.rmtree(folder)
    command = [str(SCRIPTS / "dca"), "enrol", str(token), "--credentials", str(folder)]
    done = testbed.run(host, *command)
    assert done.returncode == 0, done.stderr
    again = testbed.run(host, *command[:-1], str(folder) + "-thief")
    assert "used before" in again.stderr
    token.unlink()
    return Credentials(folder)


def answered(testbed: Testbed) -> bool:
    return testbed.dig("h2", f"q{time.monotonic_ns()}.{ZONE}") == WEB_ADDRESS


def audited(testbed: Testbed, action: str) -> list[str]:
    return [e["subject"] for e in testbed.rest("audit")["entries"] if e["action"] == action]


def active(testbed: Testbed) -> bool:
    shown = testbed.nco("show", INTENT, "--json", check=False)
    return shown.returncode == 0 and testbed.rest("show", INTENT)["phase"] == "active"


def tagged(testbed: Testbed, host: str) -> bool:
    """Whether the kernel of this host's namespace has a customization."""
    command = [str(SCRIPTS / "dca"), "tap", "status", "--run-dir", str(testbed.run_folder)]
    return "dns_app_tag" in testbed.run(host, *command).stdout.partition("\n")[2]


def test_a_host_enrols_over_the_network_and_renews_under_load(testbed: Testbed) -> None:
    testbed.agents["h2"].stop()
    credentials = enrol(testbed, "h2")
    testbed.start_agent("h2")
    testbed.wait_for_agents()
    testbed.nco(*APPLY)
    sessions = testbed.agents["h2"].tail(1000).count("session nco=")
    serials = {serial(credentials)}
    deadline = time.monotonic() + 90
    while len(serials) < 3 and time.monotonic() < deadline:
        assert answered(testbed)
        serials.add(serial(credentials))
    assert len(serials) >= 3, "two renewals while dig asks"
    log = testbed.agents["h2"].tail(1000)
    assert log.count("session nco=") == sessions, "the session went on"
    assert "no session" not in log.rpartition("session nco=")[2]
    assert audited(testbed, "certificate issued").count("h2") >= 3


def test_the_ca_is_replaced_under_load(testbed: Testbed) -> None:
    (old,) = testbed.rest("ca", "show")["authorities"]
    host = testbed.agents["h2"]
    sessions = host.tail(1000).count("session nco=")
    testbed.nco("ca", "rotate")
    deadline = time.monotonic() + 90
    while testbed.rest("ca", "show")["phase"] and time.monotonic() < deadline:
        assert answered(testbed)
    shown = testbed.rest("ca", "show")
    assert shown["phase"] is None, shown
    (new,) = shown["authorities"]
    assert new["fingerprint"] != old["fingerprint"]
    ca = Credentials(testbed.credentials / "h2").ca
    wait_until(lambda: ca.read_text() == shown["pem"], "h2 trusts the new one alone", 40)
    assert host.tail(1000).count("session nco=") == sessions, "the session went on"
    assert sorted(testbed.connected()) == sorted(testbed.agents)
    assert answered(testbed)
    assert active(testbed)


def test_a_revoked_host_is_cut_at_once_and_enrols_anew(testbed: Testbed) -> None:
    assert "its session was cut" in testbed.nco("host", "revoke", "h2").stdout
    assert "h2" not in testbed.connected()
    wait_until(lambda: "was revoked" in testbed.agents["h2"].tail(50), "the agent is told")
    assert "h2" not in testbed.connected()
    testbed.agents["h2"].stop()
    enrol(testbed, "h2")
    testbed.start_agent("h2")
    testbed.wait_for_agents()
    wait_until(lambda: active(testbed), "the intent is active")


def test_what_runs_is_proven_by_the_agent(testbed: Testbed) -> None:
    proofs = testbed.rest("challenge", INTENT)
    assert {(p["host"], p["verdict"], p["strength"]) for p in proofs} == {
        ("h2", "passed", "agent"),
        ("dns", "passed", "agent"),
    }


def test_a_silent_agent_loses_its_customization_on_both_ends(testbed: Testbed) -> None:
    agent = testbed.agents["h2"].popen
    agent.send_signal(signal.SIGSTOP)
    try:
        done = testbed.nco("challenge", "h2", check=False)
        assert done.returncode == 1
        assert "silent" in done.stdout
    finally:
        agent.send_signal(signal.SIGCONT)
    wait_until(lambda: not tagged(testbed, "h2"), "h2 has lost it")
    wait_until(lambda: not tagged(testbed, "dns"), "dns has lost it")
    assert "h2" in audited(testbed, "challenge failed")
    assert answered(testbed), "plain, and well"
    testbed.nco("revoke", INTENT)


def test_code_that_was_swapped_in_the_kernel_is_found(testbed: Testbed) -> None:
    testbed.nco(*APPLY)
    assert testbed.nco("challenge", INTENT).returncode == 0
    swap(testbed)
    done = testbed.nco("challenge", "h2", check=False)
    assert done.returncode == 1
    assert "other code than was built" in done.stdout
    wait_until(lambda: not tagged(testbed, "h2"), "h2 has lost it")
    wait_until(lambda: not tagged(testbed, "dns"), "dns has lost it")
    testbed.nco("revoke", INTENT)


def swap(testbed: Testbed) -> None:
    """Put the module's program for receiving where the one for sending was."""
    with Tables.opened(testbed.run_folder) as tables:
        (slot,) = tables.modules()
        receives = place(slot, receive=True)
        number = int.from_bytes(tables._dispatch.lookup(receives.to_bytes(4, "little")), "little")
    key = [str(byte) for byte in place(slot, receive=False).to_bytes(4, "little")]
    pinned = testbed.run_folder / "bpf" / "maps" / "l45_dispatch"
    subprocess.run(
        [
            "bpftool",
            "map",
            "update",
            "pinned",
            str(pinned),
            "key",
            *key,
            "value",
            "id",
            str(number),
        ],
        check=True,
    )
