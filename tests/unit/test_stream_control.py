"""The stream core: how streams begin, on new and live connections, switch and end."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests import stream_frames as wire
from tests.stream_target import (
    RECEIVE,
    SEND,
    Fault,
    ReceiveState,
    Role,
    SendState,
)
from tests.stream_world import Kit, Pair, give, refused

LIVE = b"one-shot"
AGAIN = b"nextshot"
BOTH = SEND | RECEIVE
WINDOW = 100
XOR_MARK = wire.mark(b"SXOR")
LIVE_MARK = wire.mark(b"SXOR", kind=b"L", token=LIVE)
TO_XOR, TO_TAG = wire.switch(b"SXOR", 1), wire.switch(b"STAG", 1)


@pytest.fixture
def live(kit: Kit) -> Iterator[Pair]:
    """A connection on which bytes have passed; stream_xor is on it, and it is armed."""
    with kit.pair(Role.JOIN, Role.JOIN) as pair:
        pair.attach(kit.xor, 1)
        for end in (pair.client, pair.server):
            end.arm(LIVE, 0, WINDOW)
        yield pair


def x(app: bytes) -> bytes:
    """A frame of stream_xor."""
    return wire.data(bytes(byte ^ 0x5A for byte in app))


# -- new connections


def test_the_accepting_side_begins_when_it_has_read_a_mark(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    assert pair.server.control() == b""
    assert give(pair.server, pair.client.write(b"ab")) == b"ab"
    assert (pair.client.control(), pair.server.control()) == (b"", b"")
    answer = pair.server.write(b"cd")
    assert answer == XOR_MARK + x(b"cd")
    assert give(pair.client, answer) == b"cd"


def test_where_the_server_speaks_first_its_direction_stays_plain(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    assert pair.server.write(b"220 ready") == b"220 ready"
    assert give(pair.client, b"220 ready") == b"220 ready"
    assert give(pair.server, pair.client.write(b"ab")) == b"ab"
    assert pair.server.write(b"cd") == b"cd"
    assert pair.client.receiving == ReceiveState.PLAIN


@pytest.mark.parametrize("switches", [0, RECEIVE])
def test_a_client_that_does_not_send_keeps_both_directions_plain(
    kit: Kit, pair: Pair, switches: int
) -> None:
    pair.client.attach(kit.xor, 1, switches)
    pair.server.attach(kit.xor, 1, BOTH)
    assert give(pair.server, pair.client.write(b"ab")) == b"ab"
    assert pair.server.write(b"cd") == b"cd"
    pair.client.set(kit.xor, 1, BOTH)
    assert pair.client.write(b"ab") == b"ab"


def test_who_may_send_only_later_begins_no_stream(kit: Kit, pair: Pair) -> None:
    """Its peer may have joined later, and not have looked at the connection's first bytes."""
    pair.client.attach(kit.xor, 1, RECEIVE)
    pair.client.set(kit.xor, 1, BOTH)
    assert pair.client.control() == b""
    assert pair.client.write(b"ab") == b"ab"


def test_who_may_send_only_later_is_switched_to(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    for end in (pair.server, pair.client):
        end.attach(kit.tag, 0, RECEIVE)
    pair.client.set(kit.tag, 0, BOTH)
    assert pair.client.write(b"ab").startswith(XOR_MARK + x(b"ab"))
    assert pair.client.write(b"ab").startswith(TO_TAG)


def test_each_end_counts_what_changes(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    pair.attach(kit.tag, 2)
    begin = pair.client.write(b"ab")
    pair.client.set(kit.xor, 1, RECEIVE)
    switch = pair.client.control()
    pair.client.set(kit.tag, 2, RECEIVE)
    pieces = [begin, switch, pair.client.control()]
    assert pair.client.changes == (3, 0)
    for number, piece in enumerate(pieces):
        assert pair.server.changes == (0, number)
        give(pair.server, piece)
    assert pair.server.changes == (0, 3)


def test_a_joined_connection_begins_with_nothing(kit: Kit) -> None:
    with kit.pair(Role.JOIN, Role.JOIN) as pair:
        pair.attach(kit.xor, 1)
        assert pair.client.write(b"ab") == b"ab"
        assert give(pair.server, XOR_MARK) == XOR_MARK


# -- live connections


def test_both_ends_go_at_once(live: Pair) -> None:
    marks = []
    for end in (live.client, live.server):
        end.go(1)
        marks.append(end.control())
        assert end.control() == b""
    assert marks == [LIVE_MARK, LIVE_MARK]
    for end in (live.client, live.server):
        assert give(end, LIVE_MARK) == b""
        assert end.control() == b""
        assert (end.sending, end.receiving) == (SendState.FRAMED, ReceiveState.FRAMED)


def test_who_reads_the_peers_mark_goes_too(live: Pair) -> None:
    live.client.go(1)
    stream = b"plain" + live.client.write(b"ab")
    assert stream == b"plain" + LIVE_MARK + x(b"ab")
    assert give(live.server, stream) == b"plainab"
    assert live.server.write(b"cd") == LIVE_MARK + x(b"cd")


def test_armed_alone_changes_nothing(live: Pair) -> None:
    assert live.client.write(b"ab") == b"ab"
    assert live.client.control() == b""
    assert give(live.server, b"ab") == b"ab"
    assert live.server.receiving == ReceiveState.LOOK
    live.server.disarm()
    assert live.server.receiving == ReceiveState.PLAIN
    assert give(live.server, LIVE_MARK) == LIVE_MARK


def test_a_live_mark_at_the_begin_of_a_new_connection(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1, RECEIVE)
    for end in (pair.client, pair.server):
        end.arm(LIVE, 0, WINDOW)
    pair.client.set(kit.xor, 1, BOTH)
    pair.client.go(0)
    stream = pair.client.control()
    assert stream == LIVE_MARK
    assert give(pair.server, stream) == b""
    pair.server.set(kit.xor, 1, BOTH)
    assert pair.server.control() == LIVE_MARK


def test_a_live_mark_does_not_let_a_new_stream_begin(kit: Kit) -> None:
    with kit.pair(Role.JOIN, Role.ACCEPT) as pair:
        pair.attach(kit.xor, 1)
        for end in (pair.client, pair.server):
            end.arm(LIVE, 0, WINDOW)
        pair.client.go(0)
        pair.server.tick(WINDOW)
        assert give(pair.server, pair.client.control()) == b""
        assert pair.server.write(b"ab") == b"ab"


@pytest.mark.parametrize("kind", [b"N", b"L"])
def test_a_mark_with_another_token_or_kind_is_payload(live: Pair, kind: bytes) -> None:
    other = wire.mark(b"SXOR", kind=kind, token=LIVE if kind == b"N" else AGAIN)
    assert give(live.server, other + other) == other + other


def test_going_needs_an_arming_and_time(kit: Kit, pair: Pair) -> None:
    with refused(errno.EINVAL):
        pair.client.go(0)
    pair.client.arm(LIVE, 0, WINDOW)
    with refused(errno.ETIME):
        pair.client.go(WINDOW // 2)
    pair.client.go(WINDOW // 2 - 1)
    pair.client.disarm()
    with refused(errno.EINVAL):
        pair.client.go(0)


def test_an_end_that_did_not_go_within_its_window_never_goes(live: Pair) -> None:
    live.client.go(1)
    assert live.client.tick(WINDOW // 2 - 1) == WINDOW // 2
    assert live.client.tick(WINDOW // 2) == WINDOW
    assert live.client.control() == b""
    assert live.client.tick(WINDOW) == 0
    assert give(live.client, LIVE_MARK) == b""
    assert live.client.control() == b""
    assert live.client.write(b"ab") == b"ab"


@pytest.mark.parametrize("length", range(1, 20))
def test_what_could_be_a_live_mark_is_held_for_a_window(live: Pair, length: int) -> None:
    assert give(live.server, b"ab" + LIVE_MARK[:length]) == b"ab"
    assert live.server.tick(WINDOW - 1) == WINDOW
    assert live.server.read() == b""
    live.server.tick(WINDOW)
    assert live.server.read() == LIVE_MARK[:length]
    assert live.server.tick(WINDOW) == 0
    assert give(live.server, b"\xf5") == b"\xf5"
    live.server.disarm()
    assert give(live.server, LIVE_MARK[length:]) == LIVE_MARK[length:]


@pytest.mark.parametrize("length", range(1, 20))
def test_a_late_mark_is_taken_whole_and_resets_in_part(live: Pair, length: int) -> None:
    for end in (live.client, live.server):
        end.tick(WINDOW)
    for begin in (b"", b"ab", LIVE_MARK[:length]):
        assert give(live.client, begin) == begin
    assert give(live.client, LIVE_MARK + x(b"cd")) == b"cd"
    assert give(live.server, LIVE_MARK[:length]) == LIVE_MARK[:length]
    live.server.fill(LIVE_MARK[length:])
    assert length > 0
    with refused(errno.EPROTO):
        [live.server.read() for _ in range(20)]
    assert live.server.faults == (Fault.NONE, Fault.LATE)


def test_a_disarming_hands_over_what_is_held(live: Pair) -> None:
    assert give(live.server, LIVE_MARK[:19]) == b""
    live.server.disarm()
    assert live.server.read() == LIVE_MARK[:19]


def test_tokens_work_once(live: Pair) -> None:
    live.client.go(1)
    give(live.server, live.client.control() + wire.END)
    assert live.server.receiving == ReceiveState.PLAIN
    assert give(live.server, LIVE_MARK) == LIVE_MARK


def test_a_stream_that_ended_begins_again_when_it_is_armed_again(kit: Kit, live: Pair) -> None:
    live.client.go(1)
    give(live.server, live.client.control())
    for end in (live.client, live.server):
        end.arm(AGAIN, 1, WINDOW)
    assert live.server.receiving == ReceiveState.FRAMED
    live.client.set(kit.xor, 1, RECEIVE)
    assert give(live.server, live.client.control() + b"ab") == b"ab"
    assert live.server.receiving == ReceiveState.LOOK
    live.client.set(kit.xor, 1, BOTH)
    assert live.client.control() == b""
    live.client.go(2)
    assert give(live.server, live.client.write(b"cd")) == b"cd"
    assert live.server.receiving == ReceiveState.FRAMED


# -- rotation and deprecation


def test_rotation_goes_out_without_waiting_for_the_application(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    pair.attach(kit.tag, 2)
    give(pair.server, pair.client.write(b"ab"))
    pair.client.set(kit.xor, 1, RECEIVE)
    assert pair.client.control() == TO_TAG
    assert pair.client.control() == b""
    assert give(pair.server, TO_TAG + pair.client.write(b"cd")) == b"cd"


def test_deprecation_ends_the_stream(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    give(pair.server, pair.client.write(b"ab"))
    give(pair.client, pair.server.write(b"cd"))
    for end in (pair.client, pair.server):
        end.set(kit.xor, 1, RECEIVE)
    assert pair.client.write(b"ef") == wire.END + b"ef"
    assert pair.server.control() == wire.END
    assert pair.server.control() == b""
    assert give(pair.server, wire.END + b"ef") == b"ef"
    assert give(pair.client, wire.END) == b""
    assert pair.client.receiving == ReceiveState.PLAIN
    pair.client.set(kit.xor, 1, BOTH)
    assert pair.client.write(b"gh") == b"gh"


def test_what_is_being_decoded_goes_on_when_receiving_is_off(kit: Kit, pair: Pair) -> None:
    pair.attach(kit.xor, 1)
    stream = pair.client.write(b"ab") + pair.client.write(b"cd")
    assert give(pair.server, stream[:23]) == b""
    pair.server.set(kit.xor, 1, SEND)
    assert give(pair.server, stream[23:]) == b"abcd"
