"""No bytes from a switch hang Ryu's parser once the guard has looked at them."""

from __future__ import annotations

import gc
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ryu.ofproto import ofproto_parser, ofproto_v1_3_parser
from ryu.ofproto.ofproto_protocol import ProtocolDesc

from apps.openflow_check import MESSAGES, MULTIPARTS, MalformedMessage, Type, check
from apps.openflow_guard import NICIRA_CONTROLLER2
from apps.openflow_limits import ERROR_BURST, OPEN_REPLIES, PACKET_IN_BURST, PORTS, Limits

CPU_SECONDS = 5.0
"""A message of 64 KiB takes Ryu some 0.3 s; what takes longer than this does not end."""


class Hang(BaseException):
    """Ryu's parser was stopped; no `except Exception` in it may swallow this."""


@pytest.fixture(autouse=True)
def _as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ofproto_v1_3_parser.NXAction._subtypes
    if NICIRA_CONTROLLER2 in known:
        monkeypatch.delitem(known, NICIRA_CONTROLLER2)


@contextmanager
def limited(cpu_seconds: float) -> Iterator[None]:
    def stop(_number: int, _frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    gc.disable()  # an exception in one of its callbacks would be lost
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        yield
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def ryu_parses(data: bytes, cpu_seconds: float = CPU_SECONDS) -> None:
    """Give a message to Ryu's parser; that it raises is no fault."""
    version, kind, length, transaction = struct.unpack_from("!BBHI", data)
    parser = ofproto_parser._MSG_PARSERS[version]
    with limited(cpu_seconds), suppress(Exception):
        parser(ProtocolDesc(version), version, kind, length, transaction, data)


def message(kind: int, body: bytes, version: int = 4) -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body), 7) + body


def multipart(kind: int, body: bytes, flags: int = 0) -> bytes:
    return message(Type.MULTIPART_REPLY, struct.pack("!HH4x", kind, flags) + body)


def checked(data: bytes) -> None:
    check(data[0], data[1], len(data), data)


MATCH = bytes.fromhex("0001000c 8000000400000005 00000000")
OUTPUT = bytes.fromhex("0000001000000002ffff000000000000")
SET_FIELD = bytes.fromhex("00190010 800016040a000001 00000000")
CONNTRACK = struct.pack("!HHIHH4sHB3xH", 0xFFFF, 40, 0x2320, 35, 1, b"\0" * 4, 0, 255, 0) + OUTPUT
LEARN = struct.pack("!HHIHHHHQHBxHH", 0xFFFF, 32, 0x2320, 16, 60, 0, 1, 0, 0, 1, 0, 0)
CONTROLLER2 = struct.pack("!HHIH6xHHH2x", 0xFFFF, 24, 0x2320, 37, 0, 8, 128)
ACTIONS = OUTPUT + SET_FIELD + CONNTRACK + LEARN + CONTROLLER2
APPLY = struct.pack("!HH4x", 4, 8 + len(ACTIONS)) + ACTIONS
GOTO = struct.pack("!HHB3x", 1, 8, 2)
FLOW_FIXED = struct.pack("!BxIIHHHH4xQQQ", 0, 1, 2, 100, 0, 0, 1, 3, 4, 5)
FLOW_BODY = FLOW_FIXED + MATCH + APPLY + GOTO
FLOW = struct.pack("!H", 2 + len(FLOW_BODY)) + FLOW_BODY
BUCKET = struct.pack("!HHII4x", 32, 1, 2, 3) + OUTPUT
BAND = struct.pack("!HHII4x", 1, 16, 1000, 10)
PROPERTY = struct.pack("!HH", 0, 12) + struct.pack("!HHHH", 1, 4, 4, 4) + b"\0" * 4
OXM_PROPERTY = struct.pack("!HHII", 8, 12, 0x80000004, 0x80000A02) + b"\0" * 4
TABLE = struct.pack("!HB5x32sQQII", 96, 0, b"t", 0, 0, 3, 100) + PROPERTY + OXM_PROPERTY
QUEUE = struct.pack("!IIH6x", 1, 2, 32) + struct.pack("!HH4xH6x", 1, 16, 500)
FRAME = b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + b"\0" * 46

VALID = {
    "hello": message(Type.HELLO, struct.pack("!HHI", 1, 8, 1 << 4)),
    "hello of another version": message(Type.HELLO, struct.pack("!HHI", 1, 8, 1 << 4), version=6),
    "error": message(Type.ERROR, struct.pack("!HH", 1, 1) + b"\0" * 64),
    "echo": message(Type.ECHO_REQUEST, b"1234"),
    "experimenter": message(Type.EXPERIMENTER, struct.pack("!II", 0x2320, 10)),
    "bundle": message(Type.EXPERIMENTER, struct.pack("!IIIHH", 0x4F4E4600, 2300, 1, 1, 0)),
    "features": message(Type.FEATURES_REPLY, struct.pack("!QIBB2xII", 1, 0, 254, 0, 0x4F, 0)),
    "packet-in": message(
        Type.PACKET_IN, struct.pack("!IHBBQ", 0xFFFFFFFF, 60, 0, 1, 5) + MATCH + b"\0\0" + FRAME
    ),
    "flow-removed": message(
        Type.FLOW_REMOVED, struct.pack("!QHBBIIHHQQ", 1, 2, 0, 0, 1, 2, 0, 0, 5, 6) + MATCH
    ),
    "port-status": message(Type.PORT_STATUS, b"\2" + b"\0" * 7 + struct.pack("!I60x", 1)),
    "barrier": message(Type.BARRIER_REPLY, b""),
    "queues": message(Type.QUEUE_GET_CONFIG_REPLY, struct.pack("!I4x", 2) + QUEUE),
    "role": message(Type.ROLE_REPLY, b"\0" * 16),
    "async": message(Type.GET_ASYNC_REPLY, b"\0" * 24),
    "description": multipart(0, b"\0" * 1056),
    "flows": multipart(1, FLOW * 3),
    "aggregate": multipart(2, b"\0" * 24),
    "tables": multipart(3, b"\0" * 48),
    "port statistics": multipart(4, b"\0" * 224),
    "queue statistics": multipart(5, b"\0" * 80),
    "groups": multipart(6, struct.pack("!H38x", 56) + b"\0" * 16),
    "group descriptions": multipart(7, struct.pack("!HBxI", 40, 0, 1) + BUCKET),
    "group features": multipart(8, b"\0" * 40),
    "meters": multipart(9, struct.pack("!IH34x", 1, 56) + b"\0" * 16),
    "meter configurations": multipart(10, struct.pack("!HHI", 24, 1, 1) + BAND),
    "meter features": multipart(11, b"\0" * 16),
    "table features": multipart(12, TABLE * 2),
    "port descriptions": multipart(13, struct.pack("!I60x", 1) * 2),
    "experimenter statistics": multipart(0xFFFF, struct.pack("!II", 1, 2)),
}


@pytest.mark.parametrize("name", VALID)
def test_what_a_switch_may_send_passes_and_ryu_reads_it(name: str) -> None:
    data = VALID[name]
    checked(data)
    parser = ofproto_parser._MSG_PARSERS[data[0]]
    read = parser(ProtocolDesc(data[0]), data[0], data[1], len(data), 7, data)
    assert read is not None
    assert read.msg_type == data[1]


def test_the_valid_messages_cover_every_message_and_multipart_type() -> None:
    kinds = {data[1] for data in VALID.values()}
    multiparts = {int.from_bytes(d[8:10], "big") for d in VALID.values() if d[1] == 19}
    assert kinds == {*MESSAGES, Type.HELLO} - {Type.ECHO_REPLY, Type.GET_CONFIG_REPLY}
    assert multiparts == set(MULTIPARTS)


def with_zero(name: str, part: bytes, at: int) -> bytes:
    """Return a valid message in which the length within `part` is zero."""
    data = VALID[name]
    offset = data.index(part) + at
    return data[:offset] + b"\0\0" + data[offset + 2 :]


HANGING = {
    "hello element": with_zero("hello", b"\0\1\0\x08", 2),
    "flow entry": with_zero("flows", FLOW, 0),
    "instruction": with_zero("flows", APPLY, 2),
    "action in an instruction": with_zero("flows", SET_FIELD, 2),
    "action in conntrack": with_zero("flows", CONNTRACK, 24 + 2),
    "group": with_zero("groups", b"\0\x38", 0),
    "bucket": with_zero("group descriptions", BUCKET, 0),
    "meter": with_zero("meters", b"\0\x38", 0),
    "meter configuration": with_zero("meter configurations", b"\0\x18", 0),
    "table features": with_zero("table features", TABLE, 0),
    "table property": with_zero("table features", PROPERTY, 2),
    "table property item": with_zero("table features", struct.pack("!HH", 1, 4), 2),
    "queue": with_zero("queues", QUEUE, 8),
    "queue property": with_zero("queues", QUEUE[16:], 2),
}


@pytest.mark.parametrize("name", HANGING)
def test_a_length_of_zero_is_refused(name: str) -> None:
    with pytest.raises(MalformedMessage):
        checked(HANGING[name])


def test_ryu_does_hang_without_the_guard() -> None:
    with pytest.raises(Hang):
        ryu_parses(HANGING["hello element"], cpu_seconds=1)


@pytest.mark.parametrize(
    "data",
    [
        message(13, b"\0" * 40),  # packet-out
        message(14, b"\0" * 80),  # flow-mod: Ryu would parse it
        message(99, b""),
        message(Type.BARRIER_REPLY, b"", version=5),
        message(Type.HELLO, b"", version=0),
        message(Type.HELLO, b"", version=7),
        multipart(14, b""),
        message(Type.ERROR, struct.pack("!HH", 0, 0) + b"\xff"),
        message(Type.PACKET_IN, b""),
    ],
)
def test_what_no_switch_may_send_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        checked(data)


def test_a_header_length_below_the_header_is_refused() -> None:
    data = struct.pack("!BBHI", 4, Type.BARRIER_REPLY, 4, 0)
    with pytest.raises(MalformedMessage):
        check(4, Type.BARRIER_REPLY, 8, data)


def survives(data: bytes) -> None:
    try:
        checked(data)
    except MalformedMessage:
        return
    ryu_parses(data)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from([*MESSAGES, Type.HELLO]), body=st.binary(max_size=300))
def test_random_bodies_never_hang_ryu(kind: int, body: bytes) -> None:
    survives(message(kind, body))


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from([*MULTIPARTS]), body=st.binary(max_size=300))
def test_random_multipart_bodies_never_hang_ryu(kind: int, body: bytes) -> None:
    survives(multipart(kind, body))


Mutation = Callable[[bytearray], None]


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    position = draw(st.integers(8, 400))
    small = st.one_of(st.integers(0, 40), st.integers(0, 65535))
    value = draw(small).to_bytes(2, "big")
    width = draw(st.sampled_from([1, 2]))

    def mutate(data: bytearray) -> None:
        if position + width <= len(data):
            data[position : position + width] = value[-width:]

    return mutate


@settings(max_examples=1500, deadline=None)
@given(
    name=st.sampled_from(sorted(VALID)),
    changes=st.lists(mutations(), min_size=1, max_size=4),
    cut=st.integers(0, 30),
)
def test_mutated_messages_never_hang_ryu(name: str, changes: list[Mutation], cut: int) -> None:
    data = bytearray(VALID[name])
    for change in changes:
        change(data)
    if cut < len(data) - 8:
        del data[len(data) - cut :]
    struct.pack_into("!H", data, 2, len(data))
    assume(bytes(data) != VALID[name])
    survives(bytes(data))


def test_packet_ins_over_the_rate_are_dropped_and_come_again_later() -> None:
    limits = Limits(now=0.0)
    packet_in = VALID["packet-in"]
    taken = [limits.admit(Type.PACKET_IN, packet_in, 0.0) for _ in range(int(PACKET_IN_BURST) + 5)]
    assert taken.count(True) == PACKET_IN_BURST
    assert limits.admit(Type.PACKET_IN, packet_in, 1.0)


def test_errors_over_the_rate_are_dropped() -> None:
    limits = Limits(now=0.0)
    taken = [limits.admit(Type.ERROR, VALID["error"], 0.0) for _ in range(int(ERROR_BURST) + 5)]
    assert taken.count(True) == ERROR_BURST


def test_other_messages_are_not_rated() -> None:
    limits = Limits(now=0.0)
    assert all(limits.admit(Type.BARRIER_REPLY, VALID["barrier"], 0.0) for _ in range(5000))


def test_a_multipart_reply_without_an_end_is_refused() -> None:
    limits = Limits(now=0.0)
    part = multipart(1, b"\0" * 65000, flags=1)

    def send_parts() -> None:
        for _ in range(1000):
            limits.admit(Type.MULTIPART_REPLY, part, 0.0)

    with pytest.raises(MalformedMessage):
        send_parts()


def test_many_finished_replies_are_no_fault() -> None:
    limits = Limits(now=0.0)
    for _ in range(1000):
        assert limits.admit(Type.MULTIPART_REPLY, multipart(1, b"\0" * 65000, flags=1), 0.0)
        assert limits.admit(Type.MULTIPART_REPLY, multipart(1, b""), 0.0)


def test_too_many_replies_at_once_are_refused() -> None:
    limits = Limits(now=0.0)

    def open_reply(transaction: int) -> None:
        part = bytearray(multipart(1, b"", flags=1))
        part[4:8] = transaction.to_bytes(4, "big")
        limits.admit(Type.MULTIPART_REPLY, bytes(part), 0.0)

    for transaction in range(OPEN_REPLIES):
        open_reply(transaction)
    with pytest.raises(MalformedMessage):
        open_reply(OPEN_REPLIES)


def port_status(port: int, reason: int) -> bytes:
    return message(Type.PORT_STATUS, bytes([reason]) + b"\0" * 7 + struct.pack("!I60x", port))


def test_ports_without_end_are_refused_and_deleted_ones_do_not_count() -> None:
    limits = Limits(now=0.0)
    for port in range(2 * PORTS):
        limits.admit(Type.PORT_STATUS, port_status(port, 0), 0.0)
        limits.admit(Type.PORT_STATUS, port_status(port, 1), 0.0)
    for port in range(PORTS):
        limits.admit(Type.PORT_STATUS, port_status(port, 0), 0.0)
    with pytest.raises(MalformedMessage):
        limits.admit(Type.PORT_STATUS, port_status(PORTS, 0), 0.0)
