"""What the tap does to datagrams: vectors, lengths, checksums, and what it leaves alone."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from tests.system.bpf.kit import (
    CLIENT,
    PORT,
    QUERY,
    SERVER,
    TAG_DIG,
    Wire,
    each_module,
    messages_of,
    named,
)
from tests.vectors import to_receive, to_send

pytestmark = pytest.mark.system

SO_NO_CHECK, UDP_SEGMENT = 11, 103


@each_module
def test_send_vectors(wire: Wire, module: str) -> None:
    for vector in to_send(module):
        assert vector.application is not None
        wire.client.apply(wire.client.customization(module, send=True, process=vector.process))
        sender = wire.client.udp(vector.process)
        frame = wire.carry(sender, vector.process, vector.application)
        assert frame.payload == vector.sent, vector.name


@each_module
def test_receive_vectors(wire: Wire, module: str) -> None:
    wire.server.apply(wire.server.customization(module, receive=True, process="dnsmasq"))
    sender, receiver = wire.client.udp("plain"), wire.server.udp("dnsmasq", PORT)
    for vector in to_receive(module):
        assert vector.wire is not None
        assert wire.carry(sender, "plain", vector.wire).payload == vector.wire, vector.name
        received, peer = receiver.recvfrom(2048)
        assert received == vector.received, vector.name
        assert peer == (CLIENT, sender.getsockname()[1])


@pytest.mark.parametrize(("module", "growth"), [("dns_app_tag", 20), ("odd_mark", 3)])
def test_every_length_comes_through(wire: Wire, module: str, growth: int) -> None:
    wire.server.apply(wire.server.customization(module, receive=True, process="dnsmasq"))
    wire.client.apply(wire.client.customization(module, send=True, process="dig"))
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    content = random.Random(1).randbytes(1472)  # noqa: S311 - reproducible, not secret
    lengths = range(1472 - growth + 1)
    for length in lengths:
        message = (QUERY[:4] + content)[:length]
        customized = length >= 12 if module == "dns_app_tag" else length > 0
        frame = wire.carry(sender, "dig", message)
        assert len(frame.payload) == length + growth * customized
        assert receiver.recv(2048) == message
    done = len(lengths) - (12 if module == "dns_app_tag" else 1)
    assert (wire.client.counters()[0].sent, wire.server.counters()[0].received) == (done, done)


def test_answers_come_back(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    wire.carry(sender, "dig", QUERY)
    _, peer = receiver.recvfrom(2048)
    response = QUERY[:2] + b"\x81\x80" + QUERY[4:]
    receiver.sendto(response, peer)
    assert sender.recvfrom(2048) == (response, (SERVER, PORT))


def test_connected_socket(wire: Wire) -> None:
    wire.tag()
    sender = wire.client.udp("other")
    with named("dig"):
        sender.connect((SERVER, PORT))
    sender.send(QUERY)
    assert wire.wiretap.next().payload == TAG_DIG + QUERY


def test_no_checksum_stays_none(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    frame = wire.carry(sender, "dig", QUERY)
    assert (frame.payload, frame.udp_checksum) == (TAG_DIG + QUERY, 0)
    assert receiver.recv(2048) == QUERY


def test_ip_options_are_kept(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 8)
    frame = wire.carry(sender, "dig", QUERY)
    assert frame.ip[20:28] == b"\x01" * 8
    assert frame.payload == TAG_DIG + QUERY
    assert receiver.recv(2048) == QUERY


def test_message_that_would_not_fit_passes_unchanged(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    message = QUERY.ljust(1472 - 19, b"\0")
    assert wire.carry(sender, "dig", message).payload == message
    assert receiver.recv(2048) == message
    counters = wire.client.counters()[0]
    assert (counters.too_big, counters.sent, counters.errors) == (1, 0, 0)


def test_fragments_pass_unchanged_and_are_counted_once(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    message = QUERY.ljust(4000, b"x")
    with named("dig"):
        sender.sendto(message, (SERVER, PORT))
    assert receiver.recv(8192) == message
    assert wire.client.counters()[0].too_big == 1


def test_segmented_sends_pass_unchanged(wire: Wire) -> None:
    wire.tag()
    sender, receiver = wire.client.udp("dig"), wire.server.udp("dnsmasq", PORT)
    segments = [QUERY.ljust(400, bytes([fill])) for fill in range(3)]
    with named("dig"):
        option = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 400))
        sender.sendmsg([b"".join(segments)], [option], 0, (SERVER, PORT))
    assert [receiver.recv(2048) for _ in segments] == segments


VERDICTS = {"done": 0, "next": 1, "pass": 2, "drop": 3, "leave": 4, "error": 5}
TAG, ANSWER = 2, 1


@pytest.mark.parametrize(
    ("verdict", "tagged", "counter"),
    [
        ("next", True, "passed"),
        ("leave", True, "passed"),
        ("pass", False, "passed"),
        ("error", False, "errors"),
        ("drop", None, "dropped"),
        ("done", False, "sent"),
        ("unknown", False, "errors"),
    ],
)
def test_verdicts(wire: Wire, verdict: str, tagged: bool | None, counter: str) -> None:
    number = VERDICTS.get(verdict, 77)
    wire.client.apply(
        wire.client.customization(
            "answer", number=ANSWER, send=True, process="dig", priority=1,
            parameters=bytes([number]),
        ),
        wire.client.customization("dns_app_tag", number=TAG, send=True, process="dig"),
    )  # fmt: skip
    sender, plain = wire.client.udp("dig"), wire.client.udp("plain")
    with named("dig"):
        sender.sendto(QUERY, (SERVER, PORT))
    if tagged is None:
        assert wire.carry(plain, "plain", b"the next on the wire").payload != QUERY
    else:
        assert wire.wiretap.next().payload == (TAG_DIG if tagged else b"") + QUERY
    answer, tag = wire.client.counters()
    assert messages_of(answer) == {counter: 1}
    assert tag.sent == bool(tagged)


def test_left_socket_is_not_asked_again(wire: Wire) -> None:
    """Not by the customization that left it; others go on, and on other sockets it too."""
    leave = bytes([VERDICTS["leave"]])
    wire.client.apply(
        wire.client.customization("answer", number=ANSWER, send=True, priority=1, parameters=leave),
        wire.client.customization("dns_app_tag", number=TAG, send=True),
    )
    left, fresh = wire.client.udp("dig"), wire.client.udp("dig")
    for sender in (left, left, left, fresh):
        assert wire.carry(sender, "dig", QUERY).payload == TAG_DIG + QUERY
    answer, tag = wire.client.counters()
    assert (answer.passed, tag.sent) == (2, 4)


@pytest.mark.parametrize("verdict", sorted(set(VERDICTS) - {"done"}))
def test_half_changed_message_is_never_seen(wire: Wire, verdict: str) -> None:
    wire.client.apply(
        wire.client.customization(
            "answer", send=True, process="dig", parameters=bytes([VERDICTS[verdict], 1])
        )
    )
    sender, plain = wire.client.udp("dig"), wire.client.udp("plain")
    with named("dig"):
        sender.sendto(QUERY, (SERVER, PORT))
    assert wire.carry(plain, "plain", b"the next on the wire").payload == b"the next on the wire"
    expected = "dropped" if verdict == "drop" else "errors"
    assert messages_of(wire.client.counters()[0]) == {expected: 1}


def test_calls_of_the_sdk(wire: Wire) -> None:
    parameters = bytes(range(1, 16))
    wire.client.apply(
        wire.client.customization("probe", send=True, process="dig", parameters=parameters)
    )
    frame = wire.carry(wire.client.udp("dig"), "dig", bytes(64))
    seen = struct.unpack("<QIHBBIB16s", frame.payload[:37])
    assert seen == (
        int.from_bytes(parameters[:8], "little"),
        int.from_bytes(parameters[8:12], "little"),
        int.from_bytes(parameters[12:14], "little"),
        15,
        0,
        64,
        0,
        b"dig".ljust(16, b"\0"),
    )
    assert len(frame.payload) == 64
