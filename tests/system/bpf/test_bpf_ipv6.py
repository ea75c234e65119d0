"""IPv6, and IPv4 on sockets of both: the same modules, whatever carries the datagram."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.system.bpf.kit import (
    CLIENT,
    CLIENT6,
    MAPPED,
    PORT,
    QUERY,
    SERVER,
    SERVER6,
    TAG_DIG,
    Wire,
    each_module,
    messages_of,
    named,
    one_wire,
)
from tests.vectors import to_receive, to_send

pytestmark = pytest.mark.system

IPV6_HOPOPTS, UDP_SEGMENT = 54, 103


@each_module
def test_send_vectors(wire: Wire, module: str) -> None:
    for vector in to_send(module):
        assert vector.application is not None
        wire.client.apply(wire.client.customization(module, send=True, process=vector.process))
        sender = wire.client.udp6(vector.process)
        frame = wire.carry(sender, vector.process, vector.application, SERVER6)
        assert frame.is_v6
        assert frame.payload == vector.sent, vector.name


@each_module
def test_receive_vectors(wire: Wire, module: str) -> None:
    wire.server.apply(wire.server.customization(module, receive=True, process="dnsmasq"))
    sender, receiver = wire.client.udp6("plain"), wire.server.udp6("dnsmasq", PORT)
    for vector in to_receive(module):
        assert vector.wire is not None
        frame = wire.carry(sender, "plain", vector.wire, SERVER6)
        assert frame.payload == vector.wire, vector.name
        received, peer = receiver.recvfrom(2048)
        assert received == vector.received, vector.name
        assert peer[:2] == (CLIENT6, sender.getsockname()[1])


@one_wire
def test_socket_of_both_families(wire: Wire) -> None:
    """One customization of an IPv4 prefix, one of an IPv6 prefix, on the same sockets."""
    wire.server.apply(wire.server.customization("odd_mark", receive=True, parameters=b"r"))
    wire.client.apply(
        wire.client.customization("odd_mark", number=1, send=True, remote=f"{SERVER}/32",
                                  parameters=b"r"),
        wire.client.customization("dns_app_tag", number=2, send=True, remote="fd99::/16"),
    )  # fmt: skip
    sender, receiver = wire.client.udp6("dig"), wire.server.udp6("dnsmasq", PORT)
    frame = wire.carry(sender, "dig", QUERY, MAPPED + SERVER)
    assert (frame.is_v6, frame.payload) == (False, QUERY[:1] + b"\xa5r\x5a" + QUERY[1:])
    received, peer = receiver.recvfrom(2048)
    assert (received, peer[0]) == (QUERY, MAPPED + CLIENT)
    frame = wire.carry(sender, "dig", QUERY, SERVER6)
    assert (frame.is_v6, frame.payload) == (True, TAG_DIG + QUERY)
    assert receiver.recv(2048) == TAG_DIG + QUERY
    assert [counters.sent for counters in wire.client.counters()] == [1, 1]
    assert [flow.local for flow in wire.client.flows()] == [CLIENT6]


@one_wire
def test_any_ipv4_address_is_no_ipv6_address_and_any_ipv6_address_is_both(wire: Wire) -> None:
    sender = wire.client.udp6("dig")
    for prefix, tagged in (("0.0.0.0/0", [True, False]), ("::/0", [True, True])):
        wire.client.apply(wire.client.customization("dns_app_tag", send=True, remote=prefix))
        servers = (MAPPED + SERVER, SERVER6)
        sent = [wire.carry(sender, "dig", QUERY, server).payload for server in servers]
        assert [payload == TAG_DIG + QUERY for payload in sent] == tagged


@one_wire
def test_connected_socket_and_answers(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp6("other"), wire.server.udp6("dnsmasq", PORT)
    with named("dig"):
        sender.connect((SERVER6, PORT))
    sender.send(QUERY)
    assert wire.wiretap.next().payload == TAG_DIG + QUERY
    message, peer = receiver.recvfrom(2048)
    assert message == QUERY
    receiver.sendto(QUERY, peer)
    assert sender.recv(2048) == QUERY


@one_wire
def test_every_length_comes_through(wire: Wire) -> None:
    wire.server.apply(wire.server.customization("odd_mark", receive=True, process="dnsmasq"))
    wire.client.apply(wire.client.customization("odd_mark", send=True, process="dig"))
    sender, receiver = wire.client.udp6("dig"), wire.server.udp6("dnsmasq", PORT)
    for length in (*range(0, 140), *range(1440, 1450)):
        message = bytes(index % 251 for index in range(length))
        frame = wire.carry(sender, "dig", message, SERVER6)
        assert len(frame.payload) == length + 3 * (length > 0)
        assert receiver.recv(2048) == message


@one_wire
def test_what_would_not_fit_and_fragments_pass_unchanged_and_count(wire: Wire) -> None:
    wire.client.apply(wire.client.customization("odd_mark", send=True, process="dig"))
    sender, receiver = wire.client.udp6("dig"), wire.server.udp6("dnsmasq", PORT)
    for number, length in enumerate((1452, 1450, 4000), start=1):
        message = QUERY.ljust(length, b"x")
        with named("dig"):
            sender.sendto(message, (SERVER6, PORT))
        assert receiver.recv(8192) == message
        assert messages_of(wire.client.counters()[0]) == {"too_big": number}


@one_wire
def test_extension_headers_and_segmented_sends_pass_unchanged(wire: Wire) -> None:
    wire.client.apply(wire.client.customization("odd_mark", send=True, process="dig"))
    sender, receiver = wire.client.udp6("dig"), wire.server.udp6("dnsmasq", PORT)
    sender.setsockopt(socket.IPPROTO_IPV6, IPV6_HOPOPTS, b"\0\0\1\4\0\0\0\0")
    with named("dig"):
        sender.sendto(QUERY, (SERVER6, PORT))
    assert receiver.recv(2048) == QUERY
    assert messages_of(wire.client.counters()[0]) == {}
    sender.setsockopt(socket.IPPROTO_IPV6, IPV6_HOPOPTS, b"")
    segments = [QUERY.ljust(400, bytes([fill])) for fill in range(3)]
    with named("dig"):
        option = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 400))
        sender.sendmsg([b"".join(segments)], [option], 0, (SERVER6, PORT))
    assert [receiver.recv(2048) for _ in segments] == segments
