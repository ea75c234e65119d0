"""The stream core, sentence by sentence of docs/wire-format.md: marks, frames and faults."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import pytest

from tests import stream_frames as wire
from tests.stream_target import (
    HOLD_NS,
    RECEIVE,
    SEND,
    Endpoint,
    Fault,
    ReceiveState,
    SendState,
    StreamError,
)
from tests.stream_world import Kit, Pair

LIVE = b"one-shot"
OTHER = b"Bytes of the application."
MARK = wire.mark()
LIVE_MARK = wire.mark(kind=b"L", token=LIVE)
BOTH = SEND | RECEIVE
TO_TAG, TO_XOR = wire.switch(b"STAG", 1), wire.switch(b"SXOR", 1)


@pytest.fixture
def server(kit: Kit) -> Iterator[Endpoint]:
    """A server that understands stream_tag, stream_xor and stream_probe."""
    with kit.pair() as pair:
        for priority, what in enumerate((kit.tag, kit.xor, kit.probe)):
            pair.server.attach(what, priority, BOTH)
        yield pair.server


def give(end: Endpoint, stream: bytes, piece: int = 0) -> bytes:
    """Hand over bytes of the transport, in pieces of that size; return what can be read."""
    app = b""
    for part in wire.every(stream, piece or len(stream) or 1):
        end.fill(part)
        app += end.read() or b""
    return app


def breaks(end: Endpoint, stream: bytes, fault: Fault, before: bytes = b"") -> None:
    """Handing it over gives `before` and breaks the receive side for good."""
    end.fill(stream)
    if before:
        assert end.read() == before
    for _ in range(2):
        with pytest.raises(StreamError):
            end.read()
        assert end.faults == (Fault.NONE, fault)
        assert end.receiving == ReceiveState.BROKEN
        end.fill(OTHER)


# -- start mark


def test_the_example_in_the_documentation(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.tag_of(42), 1)
    stream = pair.client.write(b"GET /")
    assert stream == wire.mark() + wire.data(b"GET /", wire.tag(42, b"curl"))
    assert (pair.client.sending, pair.server.receiving) == (SendState.FRAMED, ReceiveState.LOOK)
    assert give(pair.server, stream) == b"GET /"
    assert pair.server.receiving == ReceiveState.FRAMED


@pytest.mark.parametrize("bit", range(160))
def test_every_bit_of_a_mark_counts(server: Endpoint, bit: int) -> None:
    other = (int.from_bytes(MARK) ^ 1 << bit).to_bytes(20)
    assert give(server, other + OTHER) == other + OTHER
    assert server.receiving == ReceiveState.PLAIN


@pytest.mark.parametrize("piece", [0, 1])
def test_a_new_streams_mark_stands_at_its_begin_or_not_at_all(server: Endpoint, piece: int) -> None:
    assert give(server, b"x" + MARK + OTHER, piece) == b"x" + MARK + OTHER


def test_a_mark_of_a_customization_that_may_not_receive_is_payload(kit: Kit, pair: Pair) -> None:
    pair.server.attach(kit.tag, 1, SEND)
    assert give(pair.server, MARK + OTHER, 1) == MARK + OTHER


def test_the_epoch_says_what_to_decode_with(kit: Kit, pair: Pair) -> None:
    for epoch in (1, 2):
        pair.server.attach(kit.xor_of(epoch, key=epoch), epoch, BOTH)
    content = bytes(a ^ b for a, b in zip(b"abcd", (2).to_bytes(4), strict=True))
    stream = wire.mark(b"SXOR", epoch=2) + wire.data(content)
    assert give(pair.server, stream, 1) == b"abcd"


@pytest.mark.parametrize("length", range(1, 20))
def test_the_begin_of_a_mark_is_handed_over_when_it_is_none(server: Endpoint, length: int) -> None:
    assert give(server, MARK[:length]) == b""
    assert give(server, OTHER) == MARK[:length] + OTHER


@pytest.mark.parametrize("length", range(1, 20))
def test_the_begin_of_a_mark_is_handed_over_when_the_stream_ends(
    server: Endpoint, length: int
) -> None:
    assert give(server, MARK[:length]) == b""
    server.end()
    assert server.read() == MARK[:length]
    assert server.read() is None


@pytest.mark.parametrize("length", range(1, 20))
def test_the_begin_of_a_mark_is_handed_over_after_three_seconds(
    server: Endpoint, length: int
) -> None:
    give(server, MARK[:length])
    assert server.tick(5) == 5 + HOLD_NS
    assert server.tick(4 + HOLD_NS) == 5 + HOLD_NS
    assert server.read() == b""
    assert server.tick(5 + HOLD_NS) == 0
    assert server.read() == MARK[:length]
    breaks(server, MARK[length:] + OTHER, Fault.LATE)


def test_what_was_handed_over_late_is_not_handed_over_twice(server: Endpoint) -> None:
    give(server, MARK[:9])
    server.tick(0)
    server.tick(HOLD_NS)
    assert server.read() == MARK[:9]
    assert give(server, MARK[9:15]) == MARK[9:15]
    assert give(server, OTHER) == OTHER


def test_an_arming_does_not_shorten_the_time_of_a_new_streams_mark(server: Endpoint) -> None:
    server.arm(LIVE, 0, 10)
    assert server.tick(10) == 0
    assert give(server, MARK[:9]) == b""
    assert server.tick(20) == 20 + HOLD_NS
    server.disarm()
    assert server.tick(30) == 20 + HOLD_NS
    assert give(server, MARK[9:] + wire.data(OTHER)) == OTHER


def test_bytes_in_the_applications_hands_stay_when_more_is_handed_over(server: Endpoint) -> None:
    server.fill(MARK[:9])
    assert server.read() == b""
    server.arm(LIVE, 0, 10)
    server.fill(b"!\xf5L4")
    assert server.read(2) == MARK[:2]
    server.tick(10)
    assert server.read() == MARK[2:9] + b"!\xf5L4"


# -- frames


@pytest.mark.parametrize("piece", [0, 1, 3])
@pytest.mark.parametrize(
    ("frames", "app"),
    [
        (wire.data(OTHER, wire.tag()), OTHER),
        (wire.data(OTHER), OTHER),
        (wire.data(b"", wire.tag()) + wire.data(b"") + wire.data(OTHER), OTHER),
        (wire.data(bytes(65507), wire.tag()), bytes(65507)),
        (wire.untouched(OTHER), OTHER),
        (wire.untouched(MARK + LIVE_MARK), MARK + LIVE_MARK),
        (wire.END + OTHER, OTHER),
        (wire.END + MARK + OTHER, MARK + OTHER),
        (wire.switch(b"PRBH", 1) + wire.data(OTHER, b"\0\5..."), OTHER),
        (wire.switch(b"PRBH", 1) + TO_TAG + wire.data(OTHER, wire.tag()), OTHER),
        (TO_XOR + wire.data(b"\x3b\x38") + wire.untouched(b"cd"), b"abcd"),
        (TO_XOR + wire.data(b"") + wire.data(b"\x3b\x38" * 8960), b"ab" * 8960),
    ],
)
def test_frames(server: Endpoint, frames: bytes, app: bytes, piece: int) -> None:
    assert give(server, MARK + frames, piece or 30000) == app


HEADERS = {
    kind: wire.frame(kind) for kind in (bytes([n]) for n in range(256)) if kind not in b"DPSE"
}


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        *((header, Fault.FRAME) for header in HEADERS.values()),
        (wire.frame(b"P"), Fault.FRAME),
        (wire.frame(b"P", b"xy", head=1), Fault.FRAME),
        (wire.frame(b"S", b"\0\1STAG", head=1), Fault.FRAME),
        (wire.frame(b"S", b"\0\1STA"), Fault.FRAME),
        (wire.frame(b"S", b"\0\1STAG."), Fault.FRAME),
        (wire.frame(b"E", b"x"), Fault.FRAME),
        (wire.frame(b"E", head=1), Fault.FRAME),
        (wire.frame(b"D", b"xy", head=3), Fault.FRAME),
        (wire.switch(b"SXOR", 1) + wire.frame(b"D", b"xy", head=1), Fault.FRAME),
        (wire.switch(b"SXOR", 1) + wire.frame(b"D", bytes(17921)), Fault.TOO_LONG),
        (wire.switch(b"SXOR", 2), Fault.UNKNOWN),
        (wire.switch(b"NONE", 1), Fault.UNKNOWN),
        (wire.data(b"", b"tag of somebody else"), Fault.MODULE),
        (wire.switch(b"PRBH", 1) + wire.data(OTHER, b"\1\2"), Fault.MODULE),
        (wire.switch(b"PRBH", 1) + wire.data(OTHER, b"\0\3"), Fault.MODULE),
    ],
)
def test_what_is_no_frame_breaks_the_direction(
    server: Endpoint, frames: bytes, fault: Fault
) -> None:
    breaks(server, MARK + wire.untouched(OTHER) + frames, fault, before=OTHER)


def test_a_switch_to_what_may_only_send_or_only_watches_breaks_it(kit: Kit) -> None:
    for what, switches, signature in ((kit.xor, SEND, b"SXOR"), (kit.rate, BOTH, bytes(4))):
        with kit.pair() as pair:
            pair.server.attach(kit.tag, 1, BOTH)
            pair.server.attach(what, 2, switches)
            breaks(pair.server, MARK + wire.switch(signature, 1), Fault.UNKNOWN)


STREAM = [
    MARK,
    wire.data(OTHER, wire.tag()),
    wire.untouched(OTHER),
    TO_XOR,
    wire.data(b"\x3b\x38"),
    wire.END,
]
BOUNDARIES = set(accumulate(len(part) for part in STREAM))


@pytest.mark.parametrize("length", range(max(BOUNDARIES) + 1))
def test_a_stream_that_ends_inside_a_frame_breaks_it(server: Endpoint, length: int) -> None:
    give(server, b"".join(STREAM)[:length], 7)
    server.end()
    if length < len(MARK) or length in BOUNDARIES:
        assert server.read() == (MARK[:length] if 0 < length < len(MARK) else None)
        assert server.receiving == ReceiveState.PLAIN
    else:
        breaks(server, b"", Fault.CUT)


# -- the end that a peer was told to make


def test_a_silent_peer_breaks_the_direction(server: Endpoint) -> None:
    assert give(server, MARK + wire.untouched(OTHER)) == OTHER
    server.drain(100)
    assert server.tick(99) == 100
    assert server.read() == b""
    assert server.tick(100) == 0
    breaks(server, wire.END + OTHER, Fault.SILENT)


@pytest.mark.parametrize("end", [wire.END, b""])
def test_a_peer_that_ended_its_stream_is_not_silent(server: Endpoint, end: bytes) -> None:
    give(server, MARK + wire.untouched(OTHER) + end)
    server.drain(100)
    if not end:
        server.end()
    server.read()
    server.tick(100)
    assert server.read() == (b"" if end else None)
    assert server.faults == (Fault.NONE, Fault.NONE)


def test_the_wait_for_an_end_can_be_taken_back(server: Endpoint) -> None:
    give(server, MARK)
    server.drain(100)
    server.drain(0)
    assert server.tick(100) == 0
    assert give(server, wire.untouched(OTHER)) == OTHER


@pytest.mark.parametrize("held", [0, 7])
def test_what_opens_and_ends_after_the_wait_is_decoded(server: Endpoint, held: int) -> None:
    give(server, MARK[:held])
    server.drain(100)
    server.tick(100)
    stream = MARK + wire.untouched(OTHER) + wire.END + OTHER
    assert give(server, stream[held:]) == OTHER + OTHER
