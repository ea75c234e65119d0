"""The module dns_compress on any query: reduced and restored, or passed unchanged."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import vectors
from tests.user_target import Module, build

SIGNATURE = b"DNSC"
RD, AD_AND_CD = 0x0100, 0x0030
OPT = 41

u16 = st.integers(0, 0xFFFF)


@dataclass(frozen=True)
class Query:
    number: int
    flags: int
    question: bytes
    additionals: bytes = b""

    def __bytes__(self) -> bytes:
        counts = (1, 0, 0, 1 if self.additionals else 0)
        header = struct.pack("!6H", self.number, self.flags, *counts)
        return header + self.question + self.additionals

    @property
    def wire(self) -> bytes:
        return SIGNATURE + struct.pack("!H", self.number) + self.question

    @property
    def restored(self) -> bytes:
        return bytes(Query(self.number, RD, self.question))


def name(labels: list[bytes]) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(owner: int, kind: int, size: int, flags: int, data: bytes) -> bytes:
    return struct.pack("!BHHIH", owner, kind, size, flags, len(data)) + data


def question(encoded_name: bytes, kind: int, domain: int) -> bytes:
    return encoded_name + struct.pack("!HH", kind, domain)


labels = st.one_of(
    st.lists(st.binary(min_size=1, max_size=63), max_size=5),
    st.lists(st.binary(min_size=1, max_size=2), max_size=130),
)
names = labels.map(name).filter(lambda encoded: len(encoded) <= 255)
questions = st.builds(question, names, u16, u16)
u32, data = st.integers(0, 2**32 - 1), st.binary(max_size=60)
options = st.builds(record, st.just(0), st.just(OPT), u16, u32, data)
fitting_flags = st.sampled_from([RD | extra for extra in (0x00, 0x10, 0x20, 0x30)])
queries = st.builds(Query, u16, fitting_flags, questions, st.one_of(st.just(b""), options))

changes = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)))


def changed(message: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """Replace some bytes at some places by others, more or fewer."""
    for offset, new, count in edits:
        at = offset % (len(message) + 1)
        message = message[:at] + new + message[at + count :]
    return message


almost_queries = st.builds(lambda query, edits: changed(bytes(query), edits), queries, changes)
# A query in all but a count, a name that is too long or a record of another kind.
long_names = st.lists(st.binary(min_size=1, max_size=64), max_size=6).map(name)
few = st.integers(0, 1)
records = st.builds(record, few, st.sampled_from([OPT, 1, OPT << 8]), u16, u32, data)
lookalikes = st.builds(
    lambda header, *rest: struct.pack("!6H", 45, RD, *header) + b"".join(rest),
    st.tuples(few, few, few, few),
    st.one_of(questions, st.builds(question, long_names, u16, u16)),
    st.one_of(st.just(b""), records),
)
almost_wires = st.builds(lambda query, edits: changed(query.wire, edits), queries, changes)
anything = st.one_of(st.binary(max_size=400), almost_queries, lookalikes, almost_wires)


def question_size(message: bytes) -> int:
    """Bytes of the question that `message` begins with, 0 where it does not with a whole one."""
    size = 0
    while size < len(message) and 0 < message[size] <= 63:
        size += 1 + message[size]
    ended = message[size : size + 1] == b"\0" and size < 255
    return size + 5 if ended and size + 5 <= len(message) else 0


def is_opt(record: bytes) -> bool:
    """Whether `record` is one whole OPT and nothing else."""
    return record[:3] == b"\0\0\x29" and record[9:11] == struct.pack("!H", len(record[11:]))


def as_query(message: bytes) -> Query | None:
    """The query that `message` is, where it is one that can be reduced."""
    if len(message) < 12:
        return None
    number, flags, *counts = struct.unpack_from("!6H", message)
    if flags & ~AD_AND_CD != RD or counts not in ([1, 0, 0, 0], [1, 0, 0, 1]):
        return None
    end = 12 + question_size(message[12:])
    rest = message[end:]
    fits = end > 12 and (is_opt(rest) if counts[3] else not rest)
    return Query(number, flags, message[12:end], rest) if fits else None


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Module:
    built: Path = build(tmp_path_factory.mktemp("user"), vectors.MODULES)
    return Module(built / "dns_compress.so")


@settings(deadline=None)
@given(query=queries)
def test_query_is_reduced_and_restored(module: Module, query: Query) -> None:
    assert module.run("send", bytes(query)) == ("done", query.wire)
    assert module.run("recv", query.wire) == ("done", query.restored)


@settings(deadline=None)
@given(query=queries)
def test_reduced_query_is_never_longer(module: Module, query: Query) -> None:
    """Also where the path has no room for a byte more."""
    message = bytes(query)
    assert len(query.wire) < len(message)
    assert module.run("send", message, limit=len(message)) == ("done", query.wire)


@settings(deadline=None)
@given(query=queries)
def test_restored_query_is_reduced_to_the_same(module: Module, query: Query) -> None:
    assert module.run("send", query.restored) == ("done", query.wire)


def test_of_all_flags_only_ad_and_cd_are_dropped(module: Module) -> None:
    for flags in range(0x10000):
        query = Query(45, flags, question(name([b"example", b"org"]), 1, 1))
        fits = flags in (0x0100, 0x0110, 0x0120, 0x0130)
        expected = ("done", query.wire) if fits else ("next", bytes(query))
        assert module.run("send", bytes(query), room=100) == expected, hex(flags)


@settings(deadline=None, max_examples=400)
@given(message=anything)
@example(message=bytes(Query(1, RD, question(name([b"a" * 63] * 3 + [b"a" * 62]), 1, 1))))
@example(message=bytes(Query(1, RD, question(name([b"a"] * 127), 1, 1))))
@example(message=bytes(Query(1, RD, question(name([b"a"] * 128), 1, 1))))
def test_anything_sent_is_reduced_or_passes_unchanged(module: Module, message: bytes) -> None:
    query = as_query(message)
    expected = ("done", query.wire) if query else ("next", message)
    assert module.run("send", message) == expected


@settings(deadline=None, max_examples=400)
@given(message=anything)
@example(message=SIGNATURE + b"\0\1" + question(name([b"a" * 63] * 3 + [b"a" * 62]), 1, 1))
@example(message=SIGNATURE + b"\0\1" + question(name([b"a"] * 128), 1, 1))
def test_anything_received_is_restored_or_passes_unchanged(module: Module, message: bytes) -> None:
    rest = message[6:]
    if message.startswith(SIGNATURE) and rest and question_size(rest) == len(rest):
        query = Query(int.from_bytes(message[4:6], "big"), RD, rest)
        assert module.run("recv", message) == ("done", query.restored)
    else:
        assert module.run("recv", message) == ("next", message)
