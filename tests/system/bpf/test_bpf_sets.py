"""Which messages a set of customizations applies to, and how one set follows another."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from host_agent.tap import TapError
from mininet_topos.namespaces import inside
from tests import pcap
from tests.system.bpf.kit import (
    CLIENT,
    PORT,
    QUERY,
    SERVER,
    TAG_DIG,
    TIMEOUT,
    Frame,
    Wire,
    messages_of,
    named,
    one_wire,
    run,
)

pytestmark = pytest.mark.system


@one_wire
@pytest.mark.parametrize(
    ("match", "tagged"),
    [
        ({}, True),
        ({"process": "dig"}, True),
        ({"process": "digger"}, False),
        ({"thread": "dig"}, True),
        ({"thread": "isc-net-0000"}, False),
        ({"remote_port": PORT}, True),
        ({"remote_port": PORT + 1}, False),
        ({"local_port": 4000}, True),
        ({"local_port": 4001}, False),
        ({"remote": "10.99.0.0/24"}, True),
        ({"remote": "10.99.1.0/24"}, False),
        ({"local": f"{CLIENT}/32"}, True),
        ({"local": f"{SERVER}/32"}, False),
        ({"process": "dig", "remote": f"{SERVER}/32", "remote_port": PORT}, True),
    ],
)
def test_match(wire: Wire, match: dict[str, object], tagged: bool) -> None:
    wire.client.apply(wire.client.customization("dns_app_tag", send=True, **match))
    sender = wire.client.udp("dig", 4000)
    assert wire.carry(sender, "dig", QUERY).payload == (TAG_DIG if tagged else b"") + QUERY


def test_thread_of_another_name(wire: Wire) -> None:
    wire.client.apply(
        wire.client.customization("dns_app_tag", send=True, process="dig", thread="isc-net-0000")
    )
    with named("dig"):
        sender = wire.client.udp("dig")
        thread = threading.Thread(target=send_named, args=(sender, "isc-net-0000"))
        thread.start()
        thread.join()
    assert wire.wiretap.next().payload == TAG_DIG + QUERY
    assert wire.carry(sender, "dig", QUERY).payload == QUERY


def send_named(sender: socket.socket, name: str) -> None:
    with named(name):
        sender.sendto(QUERY, (SERVER, PORT))


def test_plain_programs_and_other_ports_stay_plain(wire: Wire) -> None:
    wire.tag()
    dig, other = wire.client.udp("dig"), wire.client.udp("other")
    receiver = wire.server.udp("dnsmasq", PORT)
    assert wire.carry(other, "other", QUERY).payload == QUERY
    assert receiver.recv(2048) == QUERY
    with named("dig"):
        dig.sendto(QUERY, (SERVER, PORT + 1))
    assert wire.wiretap.next().payload == QUERY
    assert messages_of(wire.client.counters()[0]) == {}


def test_send_off_is_plain_and_receive_off_leaves_the_wire_form(wire: Wire) -> None:
    server, client = wire.server, wire.client
    sender, receiver = client.udp("dig"), server.udp("dnsmasq", PORT)
    server.apply(server.customization("dns_app_tag", send=True, process="dnsmasq"))
    client.apply(client.customization("dns_app_tag", send=True, process="dig"))
    wire.carry(sender, "dig", QUERY)
    assert receiver.recv(2048) == TAG_DIG + QUERY
    server.apply(server.customization("dns_app_tag", receive=True, process="dnsmasq"))
    wire.carry(sender, "dig", QUERY)
    assert receiver.recv(2048) == QUERY
    client.apply(client.customization("dns_app_tag", receive=True, process="dig"))
    assert wire.carry(sender, "dig", QUERY).payload == QUERY
    assert receiver.recv(2048) == QUERY


def test_other_modules_messages_go_to_the_next_customization(wire: Wire) -> None:
    """Two modules, built and loaded apart, on one socket, and messages of both and of neither."""
    server, client = wire.server, wire.client
    server.apply(
        server.customization("odd_mark", number=1, receive=True, parameters=b"\7"),
        server.customization("dns_app_tag", number=2, receive=True, priority=200),
        server.customization("odd_mark", number=3, receive=True, priority=300, parameters=b"\10"),
    )
    client.apply(
        client.customization("odd_mark", number=1, send=True, process="old", parameters=b"\7"),
        client.customization("dns_app_tag", number=2, send=True, process="dig"),
        client.customization("odd_mark", number=3, send=True, process="new", parameters=b"\10"),
    )
    receiver, sender = server.udp("dnsmasq", PORT), client.udp("dig")
    marks = {"old": b"\xa5\7\x5a", "new": b"\xa5\10\x5a"}
    for process in ("old", "dig", "new", "plain"):
        mark = marks.get(process, b"")
        expected = TAG_DIG + QUERY if process == "dig" else QUERY[:1] + mark + QUERY[1:]
        assert wire.carry(sender, process, QUERY).payload == expected
        assert receiver.recv(2048) == QUERY
    first, second, third = server.counters()
    assert (first.received, second.received, third.received) == (1, 1, 1)
    assert (first.passed, second.passed, third.passed) == (3, 2, 1)


def test_lowest_priority_number_is_asked_first(wire: Wire) -> None:
    client = wire.client
    sender = client.udp("dig")

    def both(mark_priority: int) -> None:
        client.apply(
            client.customization("dns_app_tag", number=1, send=True, priority=100),
            client.customization(
                "odd_mark", number=2, send=True, priority=mark_priority, parameters=b"m"
            ),
        )

    both(200)
    assert wire.carry(sender, "dig", QUERY).payload == TAG_DIG + QUERY
    both(50)
    assert wire.carry(sender, "dig", QUERY).payload == QUERY[:1] + b"\xa5m\x5a" + QUERY[1:]


def test_sixteen_customizations_and_not_one_more(wire: Wire) -> None:
    many = [
        wire.client.customization(
            "odd_mark", number=number, send=True, process=f"p{number}", parameters=bytes([number])
        )
        for number in range(16)
    ]
    wire.client.apply(*many)
    sender = wire.client.udp("p15")
    assert wire.carry(sender, "p15", QUERY).payload[1:4] == b"\xa5\x0f\x5a"
    one_more = wire.client.customization("odd_mark", number=16, send=True)
    with pytest.raises(TapError, match="at most 16"):
        wire.client.apply(*many, one_more)
    assert wire.carry(sender, "p15", QUERY).payload[1:4] == b"\xa5\x0f\x5a"


def test_switch_of_sets_is_atomic(wire: Wire) -> None:
    """While sets of one customization follow each other, no message passes plain."""
    client = wire.client
    sender, stop = client.udp("dig"), threading.Event()

    def marked(number: int) -> None:
        parameters = bytes([number])
        client.apply(
            client.customization("odd_mark", number=number, send=True, parameters=parameters)
        )

    def send() -> None:
        while not stop.wait(0.0005):
            sender.sendto(QUERY, (SERVER, PORT))

    marked(0)
    flow = threading.Thread(target=send)
    flow.start()
    seen = []
    try:
        for number in range(1, 30):
            marked(number)
            while not seen or seen[-1][2] != number:
                seen.append(wire.wiretap.next().payload)
    finally:
        stop.set()
        flow.join()
    assert all(payload[1:4] == bytes([0xA5, payload[2], 0x5A]) for payload in seen)
    marks = [payload[2] for payload in seen]
    assert marks == sorted(marks)


def test_unchanged_customization_keeps_counters_whatever_else_changes(wire: Wire) -> None:
    client = wire.client
    stays = client.customization("dns_app_tag", number=1, send=True, process="dig")
    client.apply(stays)
    sender = client.udp("dig")
    wire.carry(sender, "dig", QUERY)
    client.apply(client.customization("odd_mark", number=2, send=True, priority=300), stays)
    wire.carry(sender, "dig", QUERY)
    assert [counters.sent for counters in client.counters()] == [2, 0]
    client.apply(client.customization("dns_app_tag", number=1, send=True, process="dig2"))
    assert [counters.sent for counters in client.counters()] == [2]


def test_hosts_are_apart(wire: Wire) -> None:
    """A customization of one namespace does nothing in another of the same kernel."""
    wire.client.apply(wire.client.customization("dns_app_tag", send=True, process="dig"))
    wire.server.apply(wire.server.customization("odd_mark", receive=True, parameters=b"x"))
    wire.server.apply()
    assert wire.carry(wire.client.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY
    sender = wire.server.udp("dig")
    receiver = wire.client.udp("plain", PORT)
    with named("dig"):
        sender.sendto(QUERY, (CLIENT, PORT))
    assert receiver.recv(2048) == QUERY


def test_packet_of_a_vlan_is_left_to_the_vlans_interface(wire: Wire) -> None:
    wire.tag()
    receiver = wire.server.udp("dnsmasq", PORT)
    with inside(wire.client.namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        frame = pcap.frame(pcap.Datagram(TAG_DIG + QUERY, CLIENT, SERVER, 4000, PORT))
        addresses = wire.server.mac + frame[6:12]
        raw.send(addresses + b"\x81\0\0\5" + frame[12:])
        raw.send(addresses + frame[12:])
    assert receiver.recv(2048) == QUERY
    assert wire.server.counters()[0].received == 1


def test_what_a_tunnel_puts_around_a_message_is_not_the_message(wire: Wire) -> None:
    """The packet around it has the socket of the message inside; only that one is customized."""
    for host, own, other in ((wire.client, 1, SERVER), (wire.server, 2, CLIENT)):
        within = ("ip", "-n", host.namespace)
        run(*within, "link", "add", "vxlan0", "type", "vxlan", "id", "7", "dstport", "4789",
            "remote", other)  # fmt: skip
        run(*within, "address", "add", f"10.96.0.{own}/24", "dev", "vxlan0")
        run(*within, "link", "set", "vxlan0", "up")
    wire.client.apply(wire.client.customization("odd_mark", send=True, parameters=b"t"))
    sender, receiver = wire.client.udp("dig"), wire.server.udp("plain", PORT)
    with named("dig"):
        sender.sendto(QUERY, ("10.96.0.2", PORT))
    assert receiver.recv(2048) == QUERY[:1] + b"\xa5t\x5a" + QUERY[1:]
    assert messages_of(wire.client.counters()[0]) == {"sent": 1}


@contextmanager
def tap_device(name: str) -> Iterator[int]:
    """Make an Ethernet interface that this process reads; it completes no checksums."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH14x", name.encode(), 0x1002))
        yield tun
    finally:
        os.close(tun)


def next_udp(tun: int) -> Frame:
    while select.select([tun], [], [], TIMEOUT)[0]:
        data = os.read(tun, 4096)
        if data[12:14] == b"\x08\0" and data[14 + 9] == socket.IPPROTO_UDP:
            return Frame(data[14:])
    raise AssertionError("nothing was forwarded")


def test_router_completes_the_checksum_and_keeps_its_hands_off(wire: Wire) -> None:
    """The server forwards to an interface that wants the checksum complete.

    Its own wildcard socket must not make its tap restore what only passes through.
    """
    wire.tag()
    wire.server.udp("dnsmasq", PORT)
    within = ("ip", "netns", "exec", wire.server.namespace)
    with inside(wire.server.namespace), tap_device("tun0") as tun:
        run(*within, "ip", "address", "add", "10.98.0.1/24", "dev", "tun0")
        run(*within, "ip", "link", "set", "tun0", "up")
        run(*within, "ip", "neigh", "add", "10.98.0.2", "lladdr", "02:00:00:00:00:01",
            "dev", "tun0")  # fmt: skip
        run(*within, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("ip", "-n", wire.client.namespace, "route", "add", "10.98.0.0/24", "via", SERVER)
        sender = wire.client.udp("dig")
        with named("dig"):
            sender.sendto(QUERY, ("10.98.0.2", PORT))
        frame = next_udp(tun)
    frame.check()
    assert frame.payload == TAG_DIG + QUERY
    assert messages_of(wire.server.counters()[0]) == {}
