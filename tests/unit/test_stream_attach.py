"""The stream core: what is attached to a flow, and who of it acts on what is sent."""

from __future__ import annotations

import errno

import pytest

from tests import stream_frames as wire
from tests.stream_target import (
    ATTACHED_MAX,
    RECEIVE,
    SEND,
    Customization,
    Fault,
    Module,
    SendState,
    StreamError,
)
from tests.stream_world import Kit, Pair, give, refused
from tests.vectors import MODULES

BOTH = SEND | RECEIVE
XOR_MARK = wire.mark(b"SXOR")
TO_XOR, TO_TAG = wire.switch(b"SXOR", 1), wire.switch(b"STAG", 1)


def x(app: bytes) -> bytes:
    """A frame of stream_xor."""
    return wire.data(bytes(byte ^ 0x5A for byte in app))


# -- what is attached


def test_a_name_is_attached_once(kit: Kit, pair: Pair) -> None:
    pair.client.attach(kit.xor_of(1, key=1), 1, BOTH)
    with refused(errno.EEXIST):
        pair.client.attach(kit.xor_of(1, key=2), 2, BOTH)
    pair.client.attach(kit.xor_of(2, key=2), 2, BOTH)
    pair.client.attach(kit.tag, 3, BOTH)


def test_a_flow_has_room_for_so_many(kit: Kit, pair: Pair) -> None:
    for epoch in range(ATTACHED_MAX):
        pair.client.attach(kit.xor_of(epoch, key=1), 1, BOTH)
    with refused(errno.ENOSPC):
        pair.client.attach(kit.tag, 1, BOTH)
    pair.client.detach(kit.xor_of(7, key=1))
    pair.client.attach(kit.tag, 1, BOTH)


def test_modules_for_datagrams_are_refused(kit: Kit, pair: Pair) -> None:
    with refused(errno.EINVAL):
        pair.client.attach(Customization(Module.of(kit.built, MODULES, "dns_app_tag")), 1, BOTH)


def test_what_is_not_attached_cannot_be_set_or_detached(kit: Kit, pair: Pair) -> None:
    pair.client.attach(kit.xor, 1, BOTH)
    pair.client._instances[kit.tag] = pair.client._instances[kit.xor]
    pair.client.detach(kit.xor)
    with refused(errno.ENOENT):
        pair.client.set(kit.tag, 1, BOTH)
    with refused(errno.ENOENT):
        pair.client.detach(kit.tag)


def test_what_a_direction_is_framed_with_stays_attached(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    give(pair.server, pair.client.write(b"ab"))
    for end in (pair.client, pair.server):
        with refused(errno.EBUSY):
            end.detach(kit.xor)
    pair.client.set(kit.xor, 1, RECEIVE)
    give(pair.server, pair.client.control())
    for end in (pair.client, pair.server):
        end.detach(kit.xor)


def test_a_broken_direction_is_framed_with_nothing(kit: Kit, pair: Pair) -> None:
    fatal = kit.probe_of(whole=True, fatal=True)
    pair.attach(fatal, 1)
    pair.server.fill(pair.client.write(b"ab") + b"....")
    with pytest.raises(StreamError):
        [pair.server.read() for _ in range(2)]
    with refused(errno.EPIPE):
        pair.client.write(b"drop this")
    for end in (pair.client, pair.server):
        end.detach(fatal)


# -- who is asked


def test_the_lowest_number_is_asked_first(kit: Kit, pair: Pair) -> None:
    pair.client.attach(kit.tag, 5, BOTH)
    pair.client.attach(kit.xor, 4, BOTH)
    assert pair.client.write(b"ab") == XOR_MARK + x(b"ab")
    pair.client.set(kit.tag, 3, BOTH)
    assert pair.client.write(b"ab") == TO_TAG + wire.data(b"ab", wire.tag())
    pair.client.set(kit.tag, 6, BOTH)
    assert pair.client.write(b"ab") == TO_XOR + x(b"ab")


@pytest.mark.parametrize("first", [b"n", b"l"])
def test_who_says_next_or_leave_leaves_it_to_the_next(kit: Kit, pair: Pair, first: bytes) -> None:
    pair.client.attach(kit.probe_of(whole=True), 1, BOTH)
    pair.client.attach(kit.xor, 2, BOTH)
    assert pair.client.write(first) == XOR_MARK + x(first)
    back = wire.switch(b"PRBW", 1) + wire.data(b"\0\0" + bytes([11]))
    assert pair.client.write(bytes([11])) == (back if first == b"n" else x(bytes([11])))


def test_who_says_leave_with_nobody_else_ends_the_stream(kit: Kit, pair: Pair) -> None:
    pair.client.attach(kit.probe_of(whole=True), 1, BOTH)
    pair.client.write(b"a")
    assert pair.client.write(b"leave") == wire.END + b"leave"
    assert pair.client.sending == SendState.PLAIN


@pytest.mark.parametrize("first", [b"p", b"e"])
def test_who_says_pass_or_fails_has_it_pass_in_a_frame(kit: Kit, pair: Pair, first: bytes) -> None:
    pair.client.attach(kit.probe_of(whole=True), 1, BOTH)
    pair.client.attach(kit.xor, 2, BOTH)
    assert pair.client.write(first) == wire.mark(b"PRBW") + wire.untouched(first)


@pytest.mark.parametrize("first", [b"d", b"s"])
def test_who_drops_or_spoils_a_message_breaks_the_direction(
    kit: Kit, pair: Pair, first: bytes
) -> None:
    pair.client.attach(kit.probe_of(whole=True, fatal=True), 1, BOTH)
    pair.client.write(b"a")
    with refused(errno.EPIPE):
        pair.client.write(first)
    for call in (lambda: pair.client.write(b"a"), pair.client.control):
        with refused(errno.EPIPE):
            call()
    assert (pair.client.sending, pair.client.faults[0]) == (SendState.BROKEN, Fault.MODULE)


def test_nothing_cannot_be_sent(pair: Pair) -> None:
    with refused(errno.EINVAL):
        pair.client.send(b"")


def test_who_only_watches_is_asked_once_a_write(kit: Kit, pair: Pair) -> None:
    pair.client.attach(kit.rate, 1, SEND)
    pair.client.attach(kit.xor, 2, BOTH)
    app = bytes(range(250)) * 600
    for begin in (XOR_MARK, b""):
        sent, left = [], app
        while left:
            sent.append(pair.client.send(left))
            left = left[sent[-1].taken :]
        pieces = [app[:65535], app[65535:131070], app[131070:]]
        assert [one.delay_ms for one in sent] == [250, 0, 0]
        assert [one.wire for one in sent] == [
            begin + wire.untouched(pieces[0]),
            *map(wire.untouched, pieces[1:]),
        ]


def test_who_is_asked_before_a_watcher_is_asked_for_every_frame(kit: Kit, pair: Pair) -> None:
    """It is shown 16 KiB at a time, and has refused no more than that."""
    pair.attach(kit.probe_of(whole=True), 1)
    pair.client.attach(kit.rate, 2, SEND)
    refused, taken = b"n" * 16384, b"y" * 16384
    sent, left = [], refused + taken + refused
    while left:
        sent.append(pair.client.send(left))
        left = left[sent[-1].taken :]
    assert [one.taken for one in sent] == [16384] * 3
    assert [one.delay_ms for one in sent] == [250, 0, 0]
    stream = b"".join(one.wire for one in sent)
    assert stream[20:].startswith(wire.untouched(refused))
    assert sent[1].wire.startswith(b"D")
    assert give(pair.server, stream) == refused + taken + refused


def test_who_only_watches_leaves_a_plain_stream_plain(kit: Kit, pair: Pair) -> None:
    pair.client.attach(kit.rate, 1, SEND)
    sent = pair.client.send(bytes(200_000))
    assert sent == type(sent)(bytes(200_000), 200_000, 250)


@pytest.mark.parametrize(("what", "most"), [("tag", 65280), ("xor", 16384)], ids=["head", "whole"])
def test_a_frame_takes_so_much_at_most(kit: Kit, pair: Pair, what: str, most: int) -> None:
    pair.attach(kit.tag_of(1, interval=65280) if what == "tag" else kit.xor, 1)
    sent = pair.client.send(bytes(70_000))
    assert (sent.taken, len(sent.wire)) == (most, most + 24 + (28 if what == "tag" else 0))
    assert pair.client.send(bytes(70_000)).taken == most
