"""Whether an OpenFlow message from a switch is whole, so that Ryu's parser ends with it.

Ryu 4.34 walks lists by the lengths that stand in them: a length of zero, and some that are wrong
in other ways, make it loop forever. So every length that Ryu follows is followed here first, in
the same way, and must move on within its list. What only misleads is not looked for: Ryu raises
there, which is harmless. Field sizes are those of the OpenFlow Switch Specification 1.3.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

OPENFLOW_13 = 4
NEWEST_VERSION = 6
HEADER_BYTES = 8

NICIRA = 0x00002320
NICIRA_CONNTRACK = 35
EXPERIMENTER = 0xFFFF

NESTED_ACTIONS_DEEP = 8


class MalformedMessage(ValueError):
    """A switch sent what no switch may send; its connection cannot go on."""


class Type(IntEnum):
    """The messages that a switch may send."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    EXPERIMENTER = 4
    FEATURES_REPLY = 6
    GET_CONFIG_REPLY = 8
    PACKET_IN = 10
    FLOW_REMOVED = 11
    PORT_STATUS = 12
    MULTIPART_REPLY = 19
    BARRIER_REPLY = 21
    QUEUE_GET_CONFIG_REPLY = 23
    ROLE_REPLY = 25
    GET_ASYNC_REPLY = 27


@dataclass(frozen=True)
class Span:
    """A part of a message."""

    data: bytes
    start: int
    end: int
    what: str

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    def u16(self, at: int) -> int:
        """Return the number at an offset into the part."""
        return int.from_bytes(self._bytes(at, 2), "big")

    def u32(self, at: int) -> int:
        """Return the number at an offset into the part."""
        return int.from_bytes(self._bytes(at, 4), "big")

    def u8(self, at: int) -> int:
        """Return the number at an offset into the part."""
        return self._bytes(at, 1)[0]

    def after(self, offset: int, what: str = "") -> Span:
        """Return what follows the first `offset` bytes."""
        if offset > self.size:
            raise MalformedMessage(f"{self.what} of {self.size} bytes, at least {offset} are due")
        return Span(self.data, self.start + offset, self.end, what or self.what)

    def exactly(self, size: int) -> None:
        """Raise MalformedMessage where the part has another size."""
        if self.size != size:
            raise MalformedMessage(f"{self.what} of {self.size} bytes, {size} are due")

    def items(self, what: str, least: int, length_at: int = 0, align: int = 1) -> Iterator[Span]:
        """Yield the items of a list in which each has its length at `length_at`.

        `least` is the shortest length that an item may have; `align` says to what multiple an
        item is padded.
        """
        rest = self
        while rest.size > 0:
            length = rest.u16(length_at)
            if not least <= length <= rest.size:
                raise MalformedMessage(f"{what} with length {length} in {rest.size} bytes")
            yield Span(rest.data, rest.start, rest.start + length, what)
            rest = rest.after(min(rest.size, _padded(length, align)))

    def _bytes(self, at: int, size: int) -> bytes:
        if at + size > self.size:
            raise MalformedMessage(f"{self.what} of {self.size} bytes ends too early")
        return self.data[self.start + at : self.start + at + size]


Check = Callable[[Span], None]


def check(version: int, msg_type: int, msg_len: int, data: bytes) -> None:
    """Raise MalformedMessage unless Ryu's parser comes to an end with this message.

    `data` is the whole message with its header, `msg_len` what the header says of its length.
    """
    if len(data) < HEADER_BYTES or not msg_len == len(data) == struct.unpack_from("!H", data, 2)[0]:
        raise MalformedMessage(f"length {msg_len} in the header of {len(data)} bytes")
    if msg_type == Type.HELLO:
        _hello(version, Span(data, HEADER_BYTES, len(data), "hello"))
        return
    if version != OPENFLOW_13:
        raise MalformedMessage(f"OpenFlow version {version} after hello, only 4 (1.3) is spoken")
    if msg_type not in MESSAGES:
        raise MalformedMessage(f"message type {msg_type} is not for a switch to send")
    least, body = MESSAGES[Type(msg_type)]
    message = Span(data, 0, len(data), Type(msg_type).name.lower().replace("_", " "))
    message.after(least)
    if body:
        body(message)


def _padded(length: int, align: int) -> int:
    return -(-length // align) * align


def _hello(version: int, elements: Span) -> None:
    """Check the elements as Ryu walks them, which is without the padding that the text asks for."""
    if not 1 <= version <= NEWEST_VERSION:
        raise MalformedMessage(f"hello with version {version}")
    for _ in elements.items("hello element", 4, length_at=2):
        pass


def _error(message: Span) -> None:
    hello_failed = message.u16(8) == 0
    if hello_failed and not message.data[12:].isascii():
        raise MalformedMessage("error text that is not ASCII")


def _packet_in(message: Span) -> None:
    _match(message.after(24, "packet-in match")).after(2)


def _flow_removed(message: Span) -> None:
    _match(message.after(48, "flow-removed match"))


def _match(span: Span) -> Span:
    """Check a match, and return what follows it."""
    kind, length = span.u16(0), span.u16(2)
    if kind != 1 or length < 4:
        raise MalformedMessage(f"{span.what} of type {kind} with length {length}")
    rest = span.after(_padded(length, 8))
    fields = Span(span.data, span.start + 4, span.start + length, "match field")
    while fields.size:
        fields = fields.after(4 + fields.u8(3))
    return rest


def _instructions(span: Span) -> None:
    for instruction in span.items("instruction", 8, length_at=2):
        kind = instruction.u16(0)
        if kind in INSTRUCTION_BYTES:
            instruction.exactly(INSTRUCTION_BYTES[kind])
        elif kind in ACTION_INSTRUCTIONS:
            _actions(instruction.after(8, "actions"))


def _actions(span: Span, depth: int = 0) -> None:
    if depth > NESTED_ACTIONS_DEEP:
        raise MalformedMessage(f"actions nested over {NESTED_ACTIONS_DEEP} deep")
    for action in span.items("action", 8, length_at=2):
        kind = action.u16(0)
        if kind == EXPERIMENTER:
            _experimenter_action(action, depth)
        elif kind != SET_FIELD:
            action.exactly(OUTPUT_BYTES if kind == OUTPUT else 8)


def _experimenter_action(action: Span, depth: int) -> None:
    nicira = action.u32(4) == NICIRA
    if nicira and action.u16(8) == NICIRA_CONNTRACK:
        _actions(action.after(24, "actions of conntrack"), depth + 1)


def _multipart(message: Span) -> None:
    kind = message.u16(8)
    if kind not in MULTIPARTS:
        raise MalformedMessage(f"multipart reply of unknown type {kind}")
    MULTIPARTS[kind](message.after(16, f"multipart reply of type {kind}"))


def _one(size: int) -> Check:
    """Return the check of a body that is one structure."""
    return lambda body: body.exactly(size)


def _each(size: int) -> Check:
    """Return the check of a body that is structures of one size."""

    def check_body(body: Span) -> None:
        if body.size % size:
            raise MalformedMessage(f"{body.what}: {body.size} bytes of {size} bytes each")

    return check_body


def _flow_statistics(body: Span) -> None:
    for entry in body.items("flow statistics", 56):
        _instructions(_match(entry.after(48, "flow statistics match")))


def _group_statistics(body: Span) -> None:
    for entry in body.items("group statistics", 40):
        _each(16)(entry.after(40))


def _group_descriptions(body: Span) -> None:
    for group in body.items("group description", 8):
        for bucket in group.after(8).items("bucket", 16):
            _actions(bucket.after(16, "actions of a bucket"))


def _meter_statistics(body: Span) -> None:
    for meter in body.items("meter statistics", 40, length_at=4):
        _each(16)(meter.after(40))


def _meter_configurations(body: Span) -> None:
    for meter in body.items("meter configuration", 8):
        for band in meter.after(8).items("meter band", 12, length_at=2):
            band.exactly(16)


def _table_features(body: Span) -> None:
    for table in body.items("table features", 64):
        properties = table.after(64)
        for each in properties.items("table property", 4, length_at=2, align=8):
            if each.size > TABLE_PROPERTY_BYTES:
                raise MalformedMessage(f"table property of {each.size} bytes")
            if each.u16(0) in TABLE_PROPERTIES_WITH_LENGTHS:
                for _ in each.after(4).items("table property item", 4, length_at=2):
                    pass


def _experimenter_body(body: Span) -> None:
    body.after(8)


def _queues(message: Span) -> None:
    for queue in message.after(16).items("queue", 16, length_at=8):
        for _ in queue.after(16).items("queue property", 8, length_at=2):
            pass


OUTPUT, OUTPUT_BYTES = 0, 16
SET_FIELD = 25
INSTRUCTION_BYTES = {1: 8, 2: 24, 6: 8}
"""Goto-table, write-metadata, meter: Ryu goes on by these whatever length they claim."""
ACTION_INSTRUCTIONS = (3, 4, 5)

TABLE_PROPERTY_BYTES = 4096
"""Ryu's time on a table property grows with the square of its length."""
TABLE_PROPERTIES_WITH_LENGTHS = (0, 1, 4, 5, 6, 7)
"""Instructions and actions that a table can have."""

MULTIPARTS: dict[int, Check] = {
    0: _one(1056),  # description
    1: _flow_statistics,
    2: _one(24),  # aggregate
    3: _each(24),  # table
    4: _each(112),  # port statistics
    5: _each(40),  # queue
    6: _group_statistics,
    7: _group_descriptions,
    8: _one(40),  # group features
    9: _meter_statistics,
    10: _meter_configurations,
    11: _one(16),  # meter features
    12: _table_features,
    13: _each(64),  # port description
    EXPERIMENTER: _experimenter_body,
}

MESSAGES: dict[Type, tuple[int, Check | None]] = {
    Type.ERROR: (12, _error),
    Type.ECHO_REQUEST: (8, None),
    Type.ECHO_REPLY: (8, None),
    Type.EXPERIMENTER: (16, None),
    Type.FEATURES_REPLY: (32, None),
    Type.GET_CONFIG_REPLY: (12, None),
    Type.PACKET_IN: (34, _packet_in),
    Type.FLOW_REMOVED: (56, _flow_removed),
    Type.PORT_STATUS: (80, None),
    Type.MULTIPART_REPLY: (16, _multipart),
    Type.BARRIER_REPLY: (8, None),
    Type.QUEUE_GET_CONFIG_REPLY: (16, _queues),
    Type.ROLE_REPLY: (24, None),
    Type.GET_ASYNC_REPLY: (32, None),
}
"""The shortest length of each message, and the check of what is in it."""
