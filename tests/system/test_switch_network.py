"""Forwarding, mirrors and hostile switches: Open vSwitch, Mininet's hosts, stock ryu-manager."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import RemoteController

from controller.switch_link import Mirror, MirrorStatus, Steering
from mininet_topos import openvswitch
from mininet_topos.ports import free_port
from mininet_topos.processes import Process, Processes, wait_until
from mininet_topos.two_site import TwoSite
from tests.waiting import PATIENCE
from wire.messages import dump

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

RYU_MANAGER = Path(sys.executable).with_name("ryu-manager")
ROOT = Path(__file__).parent.parent.parent
STAND_IN = Path(__file__).with_name("switch_stand_in.py")
COOKIE = "0x4c34350000000000"
MIDDLEBOX_PORT, DNS_PORT = 4, 1

DNS_MIRROR = Mirror(id="tag", transport="udp", server="10.10.0.3", port=53, middlebox="10.10.0.6")


class Network:
    """Two sites, ryu-manager with `apps/nco.py`, and a stand-in for the service."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        (self.state / "run").mkdir(parents=True)
        (self.state / "nco.toml").touch()  # the stand-in does not read it
        self.processes = Processes(folder)
        self.port = free_port()
        self.heard = folder / "heard"
        self.generation = 0
        setLogLevel("critical")
        self.net = Mininet(topo=TwoSite(), controller=None, build=False)

    def start(self) -> None:
        path = self.state / "run" / "switches.sock"
        self.service = subprocess.Popen(
            [sys.executable, str(STAND_IN), str(path)],
            stdin=subprocess.PIPE, stdout=self.heard.open("ab"), cwd=ROOT,
        )  # fmt: skip
        wait_until(path.exists, "the stand-in listens")
        self.start_ryu()
        self.net.build()
        self.net.addController("c0", controller=RemoteController, ip="127.0.0.1", port=self.port)
        self.net.start()
        wait_until(lambda: self.switches().get("connected") == [1, 2], "both switches connect")

    def start_ryu(self) -> None:
        command = [str(RYU_MANAGER), "--ofp-tcp-listen-port", str(self.port), "apps/nco.py"]
        environment = os.environ | {"L45_STATE": str(self.state)}
        self.ryu: Process = self.processes.start("ryu", command, env=environment)
        wait_until(self.listening, "ryu-manager listens", process=self.ryu)

    def listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.net.stop()
        for controller in self.net.controllers:
            controller.terminate()  # a remote one's `stop` leaves its shell
        self.processes.stop()
        self.service.kill()
        self.service.communicate()

    def steer(self, *mirrors: Mirror) -> None:
        """Say what is wanted, as the service does."""
        assert self.service.stdin
        self.generation += 1
        wanted = Steering(
            generation=self.generation, control=("10.10.0.5", 4545), mirrors=list(mirrors)
        )
        self.service.stdin.write(json.dumps(dump(wanted)).encode() + b"\n")
        self.service.stdin.flush()

    def log(self) -> str:
        return self.ryu.log.read_text(encoding="utf-8")

    def last(self, kind: str) -> dict[str, Any]:
        lines = self.heard.read_text(encoding="utf-8").split("\n")[:-1]
        messages = [message for message in map(json.loads, lines) if message["type"] == kind]
        return messages[-1] if messages else {}

    def switches(self) -> dict[str, Any]:
        return self.last("switches")

    def status(self) -> MirrorStatus | None:
        """Return what is reported of the one mirror that is wanted."""
        report = self.last("steering_report")
        if report.get("generation") != self.generation or not report["mirrors"]:
            return None
        return MirrorStatus.model_validate(report["mirrors"][0])

    def await_state(self, state: str) -> MirrorStatus:
        wait_until(
            lambda: (status := self.status()) is not None and status.state == state,
            f"the mirror is {state}",
            process=self.ryu,
        )
        status = self.status()
        assert status
        return status

    def ask_dns(self, server: str = DNS_MIRROR.server) -> None:
        """Have h1 send a datagram to the DNS server's port 53; nobody needs to answer."""
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        send = f"import socket; socket.socket({family:d}, 2).sendto(b'query', ({server!r}, 53))"
        output, errors, code = self.net["h1"].pexec([sys.executable, "-c", send])
        assert code == 0, errors or output


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with openvswitch.alone(), openvswitch.ensure_running():
        running = Network(tmp_path_factory.mktemp("switches"))
        try:
            running.start()
            yield running
        finally:
            running.stop()


def ovs_ofctl(command: str, switch: str, *arguments: str) -> str:
    result = subprocess.run(
        ["ovs-ofctl", "--protocols=OpenFlow13", "--no-names", command, switch, *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return result.stdout


def flows(switch: str, what: str = "") -> list[str]:
    """Return the entries of a switch, without what changes by itself."""
    dump = ovs_ofctl("dump-flows", switch, what)
    varying = r" (duration|n_packets|n_bytes|idle_age|hard_age)=[^ ]*|^ "
    return sorted(re.sub(varying, "", line) for line in dump.splitlines() if "cookie" in line)


def ours(switch: str) -> list[str]:
    return flows(switch, f"cookie={COOKIE}/-1")


def test_every_host_reaches_every_other(network: Network) -> None:
    assert network.net.pingAll() == 0


def test_hosts_are_told_where_they_are_attached_and_not_behind_links(network: Network) -> None:
    network.net.pingAll()

    def attachments() -> dict[str, tuple[int, int]]:
        hosts = network.switches().get("hosts", [])
        return {host["address"]: (host["dpid"], host["port"]) for host in hosts}

    expected = {
        "10.10.0.3": (1, DNS_PORT), "10.10.0.4": (1, 2), "10.10.0.5": (1, 3),
        "10.10.0.6": (1, MIDDLEBOX_PORT), "10.10.0.1": (2, 1), "10.10.0.2": (2, 2),
    }  # fmt: skip
    wait_until(lambda: attachments() == expected, "the hosts are told")


def test_a_host_that_speaks_ipv6_first_is_known_by_its_first_ipv4_packet(
    network: Network,
) -> None:
    """Without ARP: neighbours may know it from before the controller was started."""
    mac = "02:00:00:00:06:04"

    def send(kind: str, body: str) -> None:
        code = (
            "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
            "s.bind(('web-eth0', 0));"
            f"s.send(bytes.fromhex('ffffffffffff{mac.replace(':', '')}{kind}{body}'))"
        )
        output, errors, status = network.net["web"].pexec([sys.executable, "-c", code])
        assert status == 0, errors or output

    send("86dd", "60" + "00" * 39)
    wait_until(lambda: f"mac={mac} address=None" in network.log(), "its IPv6 packet is seen")
    wait_until(lambda: any(mac in flow for flow in flows("s1", "table=1")), "its entry is there")
    send("0800", "45" + "00" * 11 + "0a0a0063" + "0a0a0003" + "00" * 8)
    wait_until(
        lambda: any(host["address"] == "10.10.0.99" for host in network.switches()["hosts"]),
        "its IPv4 address is told",
    )


def test_packet_ins_are_metered_in_the_switch(network: Network) -> None:
    for switch in ("s1", "s2"):
        assert "meter=controller" in ovs_ofctl("dump-meters", switch)


def test_a_mirror_stands_on_the_switch_of_the_server_with_our_cookie(network: Network) -> None:
    network.net.pingAll()
    network.steer(DNS_MIRROR)
    status = network.await_state("installed")
    assert (status.dpid, status.port) == (1, MIDDLEBOX_PORT)
    copies = [flow for flow in ours("s1") if f"output:{MIDDLEBOX_PORT}," in flow]
    assert len(copies) == 2
    assert not [flow for flow in ours("s2") if "tp_dst=53" in flow]


def test_the_middlebox_gets_a_copy_of_what_is_sent_to_the_service(network: Network) -> None:
    network.steer(DNS_MIRROR)
    assert_copied(network, "10.10.0.1")


def test_the_middlebox_gets_a_copy_over_ipv6_too(network: Network) -> None:
    network.net.pingAll()
    addresses = {"h1": "fd00:45::1", "dns": "fd00:45::3"}
    for host, address in addresses.items():
        network.net[host].cmd(f"ip -6 addr add {address}/64 dev {host}-eth0 nodad")
    try:
        six = {"server": addresses["dns"], "known_as": DNS_MIRROR.server}
        network.steer(DNS_MIRROR.model_copy(update=six))
        assert_copied(network, addresses["h1"], server=addresses["dns"])
    finally:
        for host, address in addresses.items():
            network.net[host].cmd(f"ip -6 addr del {address}/64 dev {host}-eth0")


def assert_copied(network: Network, client: str, server: str = DNS_MIRROR.server) -> None:
    """Send a datagram to the service; it must be seen at the middlebox, and counted."""
    before = network.await_state("installed").packets
    capture = network.net["mb"].popen(
        ["tcpdump", "-l", "-n", "-c", "1", "-i", "mb-eth0", f"udp dst port 53 and dst {server}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        capture.stderr.readline()  # "listening on ..."
        network.ask_dns(server)
        assert client.encode() in capture.communicate(timeout=PATIENCE)[0]
    finally:
        capture.kill()
        capture.wait()
    wait_until(
        lambda: (status := network.status()) is not None and status.packets > before,
        "the copy is counted",
    )


def test_a_mirror_deleted_by_hand_is_restored(network: Network) -> None:
    network.steer(DNS_MIRROR)
    network.await_state("installed")
    expected = ours("s1")
    ovs_ofctl("del-flows", "s1", "udp,udp_dst=53")
    wait_until(lambda: ours("s1") == expected, "the entry is restored")


def test_a_switch_wiped_by_hand_forwards_and_mirrors_again(network: Network) -> None:
    network.steer(DNS_MIRROR)
    network.await_state("installed")
    expected = ours("s1")
    ovs_ofctl("del-flows", "s1")
    wait_until(lambda: ours("s1") == expected, "all our entries are restored")
    assert network.net.pingAll() == 0


def test_an_entry_that_nobody_wants_is_taken_away_and_others_entries_stay(
    network: Network,
) -> None:
    network.steer(DNS_MIRROR)
    network.await_state("installed")
    expected = ours("s1")
    ovs_ofctl("add-flow", "s1", f"cookie={COOKIE},priority=77,tcp,actions=output:2")
    ovs_ofctl("add-flow", "s1", "cookie=0x1234,priority=78,tcp,actions=goto_table:1")
    try:
        wait_until(lambda: ours("s1") == expected, "the entry is taken away")
        assert len(flows("s1", "cookie=0x1234/-1")) == 1
    finally:
        ovs_ofctl("del-flows", "s1", "cookie=0x1234/-1")


def test_a_mirror_survives_a_switch_that_connects_again(network: Network) -> None:
    network.steer(DNS_MIRROR)
    network.await_state("installed")
    expected = ours("s1")
    target = f"tcp:127.0.0.1:{network.port}"
    subprocess.run(["ovs-vsctl", "set-controller", "s1", "tcp:127.0.0.1:1"], check=True)
    wait_until(lambda: network.switches()["connected"] == [2], "s1 is away")
    assert ours("s1") == expected, "a switch without controller keeps its entries"
    subprocess.run(["ovs-vsctl", "set-controller", "s1", target], check=True)
    wait_until(lambda: network.switches()["connected"] == [1, 2], "s1 is back")
    network.await_state("installed")
    assert ours("s1") == expected
    assert network.net.pingAll() == 0


def test_a_mirror_survives_a_killed_ryu(network: Network) -> None:
    network.steer(DNS_MIRROR)
    network.await_state("installed")
    expected = ours("s1")
    network.ryu.kill()
    network.heard.write_bytes(b"")
    network.start_ryu()
    wait_until(lambda: network.switches().get("connected") == [1, 2], "both switches are back")
    assert ours("s1") == expected
    assert network.net.pingAll() == 0
    network.await_state("installed")
    assert ours("s1") == expected


def test_a_middlebox_at_the_other_site_is_impossible_and_says_why(network: Network) -> None:
    network.net.pingAll()
    network.steer(DNS_MIRROR.model_copy(update={"middlebox": "10.10.0.2"}))
    status = network.await_state("impossible")
    assert "10.10.0.3 is on switch 1" in status.reason
    assert "10.10.0.2 on switch 2" in status.reason


def test_a_host_nobody_has_seen_is_waited_for_by_name(network: Network) -> None:
    network.steer(DNS_MIRROR.model_copy(update={"server": "10.10.0.98"}))
    assert "10.10.0.98 has not sent a packet yet" in network.await_state("pending").reason


def test_revoked_mirrors_leave_no_entry(network: Network) -> None:
    network.steer(DNS_MIRROR)
    network.await_state("installed")
    network.steer()
    wait_until(
        lambda: not [flow for flow in ours("s1") if "53" in flow.split("actions")[0]],
        "no entry for the service is left",
    )


def test_forged_sources_do_not_grow_the_host_table_nor_stop_the_network(network: Network) -> None:
    forge = (
        "import socket, struct\n"
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
        "s.bind(('h2-eth0', 0))\n"
        "for n in range(3000):\n"
        "    mac = b'\\x02\\xee' + struct.pack('!I', n)\n"
        "    arp = struct.pack('!HHBBH6sI10x', 1, 0x800, 6, 4, 1, mac, 0x0a0b0000 + n)\n"
        "    s.send(b'\\xff' * 6 + mac + b'\\x08\\x06' + arp)\n"
    )
    output, errors, code = network.net["h2"].pexec([sys.executable, "-c", forge])
    assert code == 0, errors or output
    assert network.net.pingAll() == 0

    def forged() -> int:
        return sum(h["mac"].startswith("02:ee") for h in network.switches()["hosts"])

    wait_until(lambda: forged() > 0, "some forged sources are learnt")
    assert forged() <= 64


HELLO = struct.pack("!BBHI", 4, 0, 8, 1)
HOSTILE = {
    "hello element of length zero": struct.pack("!BBHIHHI", 4, 0, 16, 1, 1, 0, 0),
    "message shorter than its header": struct.pack("!BBHI", 4, 0, 3, 1),
    "text": b"GET / HTTP/1.1\r\nHost: nco\r\n\r\n" * 1000,
    "zeros": bytes(4096),
    "noise": bytes(range(256)) * 64,
    "flow entry of length zero": HELLO + struct.pack("!BBHIHHIH54x", 4, 19, 72, 1, 1, 0, 0, 0),
    "hello of no known version": struct.pack("!BBHI", 99, 0, 8, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_switch_loses_its_connection_and_the_others_go_on(
    network: Network, name: str
) -> None:
    with socket.create_connection(("127.0.0.1", network.port), timeout=PATIENCE) as connection:
        connection.sendall(HOSTILE[name])
        address = connection.getsockname()
        while connection_goes_on(connection):
            pass
    wait_until(lambda: f"closed address={address}" in network.log(), "the reason is logged")
    assert "Traceback" not in network.log()
    assert network.net.pingAll() == 0


def connection_goes_on(connection: socket.socket) -> bool:
    """Read on; False once the other end has closed, True while it has something to say."""
    try:
        return connection.recv(4096) != b""
    except ConnectionResetError:
        return False


def test_ryu_ends_on_ctrl_c_and_so_does_the_service(network: Network) -> None:
    """The last test here: it ends what the others need."""
    network.ryu.popen.send_signal(2)
    assert network.ryu.popen.wait(PATIENCE) == 0
    assert network.service.wait(PATIENCE) == -15
    assert "Traceback" not in network.log()
