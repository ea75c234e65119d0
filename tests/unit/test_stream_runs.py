"""Frames that are alike: their module is asked once, and every byte is as if it were asked."""

from __future__ import annotations

import random

import pytest

from tests import stream_frames as wire
from tests.stream_target import RECEIVE, SEND, Endpoint, Fault, ReceiveState, StreamError
from tests.stream_world import Kit, Pair

BOTH = SEND | RECEIVE
APP = random.Random(45).randbytes(7500)  # noqa: S311 - not for secrets
TAG = wire.tag(42, b"curl")


def read_all(end: Endpoint, stream: bytes, piece: int, room: int) -> bytes:
    """Hand over bytes of the transport in pieces, and read after each until nothing is left."""
    app = b""
    for part in wire.every(stream, piece):
        end.fill(part)
        while more := end.read(room):
            app += more
    return app


def test_one_call_makes_all_frames_that_are_alike(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.tag, 1)
    sent = pair.client.send(APP)
    frames = [wire.data(part, TAG) for part in wire.every(APP[:7000], 1000)]
    assert (sent.wire, sent.taken) == (wire.mark() + b"".join(frames), 7000)


def test_a_tag_that_is_due_later_ends_a_run(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.tag, 1)
    stream = b"".join(map(pair.client.write, (APP[:2500], APP[2500:5000], APP[5000:])))
    assert read_all(pair.server, stream, 65536, 65536) == APP
    assert stream.count(TAG) == 8


@pytest.mark.parametrize("interval", [1, 7, 1000, 3000])
@pytest.mark.parametrize("piece", [1, 31, 32, 33, 1031, 1033, 65536])
@pytest.mark.parametrize("room", [1, 999, 1000, 1001, 65536])
def test_runs_are_cut_anywhere(kit: Kit, pair: Pair, interval: int, piece: int, room: int) -> None:
    pair.attach(kit.tag_of(42, interval=interval), 1)
    app = APP[:300] if interval < 1000 else APP
    assert read_all(pair.server, pair.client.write(app), piece, room) == app


def test_another_head_is_the_modules_to_judge(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.tag, 1)
    known = wire.data(b"a" * 1000, TAG) * 3
    other = wire.data(b"b" * 1000, wire.tag(43, b"curl"))
    bad = wire.data(b"c" * 1000, b"T" + TAG[1:])
    pair.server.fill(wire.mark() + known + other + bad)
    assert pair.server.read() == b"a" * 3000 + b"b" * 1000
    with pytest.raises(StreamError):
        pair.server.read()
    assert pair.server.faults == (Fault.NONE, Fault.MODULE)
    assert pair.server.receiving == ReceiveState.BROKEN


def test_a_switch_forgets_what_is_known(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.tag, 1)
    pair.server.attach(kit.probe, 2, BOTH)
    frames = wire.data(b"a" * 1000, TAG) * 2 + wire.switch(b"PRBH", 1) + wire.data(b"", TAG)
    pair.server.fill(wire.mark() + frames)
    assert pair.server.read() == b"a" * 2000
    with pytest.raises(StreamError):  # stream_probe knows no such head
        pair.server.read()


def test_who_is_asked_before_is_asked_for_every_frame(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.probe, 0)
    pair.attach(kit.tag, 1)
    assert pair.client.send(bytes(8 * 1000 + 1)).taken == 1000  # stream_probe said next
