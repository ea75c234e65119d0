"""Two ends of a connection, a network that delivers as it likes, and who controls both ends.

The controller does everything that is legal, in any order: an end may send only what the other may
receive; receiving is switched off when the peer no longer sends it and everything that was sent
with it has been read; ends are disarmed when no mark can come any more. A `Way` is one direction
and knows what must be true of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.stream_decoder import Decoder, Dialect
from tests.stream_target import (
    HOLD_NS,
    RECEIVE,
    SEND,
    TOKEN,
    Customization,
    Endpoint,
    Fault,
    ReceiveState,
    Role,
    SendState,
    StreamError,
)
from tests.stream_world import Kit

WINDOW = 2_000_000_000
HELD_MAX = 19


@dataclass
class Slot:
    """A customization that comes and goes, under a new epoch each time."""

    made: Customization
    dialect: Dialect | None  # none: it only watches
    ends: list[int | None] = field(default_factory=lambda: [None, None])  # switches; not attached
    priorities: list[int] = field(default_factory=lambda: [0, 0])
    was_on: set[int] = field(default_factory=set)  # ends that have, or had, it under this epoch

    def renew(self) -> None:
        self.was_on.clear()
        self.made = replace(self.made, epoch=self.made.epoch + 10)
        if self.dialect:
            self.dialect = replace(self.dialect, epoch=self.made.epoch)


def slots(kit: Kit) -> list[Slot]:
    made: list[tuple[Customization, Dialect | None]] = [
        (kit.tag_of(7, 1, 50), Dialect("tag", b"STAG", 1, 7)),
        (kit.xor_of(2, 0x01020304), Dialect("xor", b"SXOR", 2, 0x01020304)),
        (kit.probe_of(whole=False, epoch=3), Dialect("probe", b"PRBH", 3)),
        (kit.probe_of(whole=True, epoch=4), Dialect("whole", b"PRBW", 4)),
        (kit.xor_of(5, 0xFFF5FF45), Dialect("xor", b"SXOR", 5, 0xFFF5FF45)),
        (kit.rate_of(250, 6), None),
    ]
    return [Slot(*one) for one in made]


@dataclass
class Way:
    """One direction of the connection: what was written, what is on the wire, what was read."""

    sender: Endpoint
    receiver: Endpoint
    decoder: Decoder
    flying: bytearray = field(default_factory=bytearray)
    written: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    chunks: list[tuple[int, int]] = field(default_factory=list)  # so much wire is so much app
    delivered: int = 0
    consumed: int = 0  # of the wire, at least
    closed: bool = False
    finished: bool = False  # the receiver was told
    ended: bool = False  # and has read all
    silent: bool = False  # the peer was told to end, and had its time
    begun: set[bytes] = field(default_factory=set)  # kinds of marks that were read in part
    begun_since: int = 0
    split_late: bool = False  # of one of them, time was over before the rest
    marks: list[tuple[int, bytes]] = field(default_factory=list)  # and where among the written
    held_since: int = 0
    impatient: bool = False  # nothing may be held any more
    _heard: int = 0  # chunks that were delivered whole

    def put(self, chunk: bytes, app: bytes, tokens: dict[bytes, bytes]) -> None:
        """What the sender made of `app`."""
        before, marks = self.decoder.current, dict(self.decoder.marks)
        messages = self.decoder.messages
        assert self.decoder.take(chunk, tokens) == app
        if self.decoder.marks != marks:
            self.marks.append((len(self.written), chunk[:20]))
        on = [dialect for dialect in (before, self.decoder.current) if dialect]
        messages = self.decoder.messages - messages
        most = 20 + messages * (4 + max(one.growth for one in on)) if on else 0
        assert len(chunk) - len(app) <= most
        self.flying += chunk
        self.written += app
        self.chunks.append((self.decoder.size, len(self.written)))

    def deliver(self, size: int) -> None:
        done = self.receiver.fill(bytes(self.flying[:size]))
        del self.flying[:done]
        self.delivered += done
        if self.closed and not self.flying:
            self.receiver.end()
            self.finished = True

    def read(self, room: int) -> bool:
        """Return whether there can be more. Raises StreamError where the stream may break so."""
        try:
            app = self.receiver.read(room)
        except StreamError:
            self._expect_fault()
            raise
        self.begun = {
            kind for kind, (start, end) in self.decoder.marks.items() if self._inside(start, end)
        }
        self.begun_since = self.begun_since if self.begun else 0
        if app is None:
            assert self.finished
            assert self.got == self.written
            self.ended = True
        else:
            self.got += app
            assert self._is_right(), "other bytes than were written"
            self._raise_fault()
        if app is None or len(app) < room:
            self.consumed = self.delivered
            self._expect_little_held()
        return app is not None

    def _is_right(self) -> bool:
        if self.written.startswith(self.got):
            return True
        return self.split_late and any(
            (self.written[:place] + mark[:19]).startswith(self.got) for place, mark in self.marks
        )

    @property
    def is_cut(self) -> bool:
        """The last byte that was delivered is inside a mark."""
        return any(start < self.delivered < end for start, end in self.decoder.marks.values())

    def _inside(self, start: int, end: int) -> bool:
        return start < self.delivered and self.consumed < end

    def _raise_fault(self) -> None:
        """What was read before a fault is handed over first; the next read tells of it."""
        if self.receiver.receiving == ReceiveState.BROKEN:
            self._expect_fault()
            raise AssertionError(f"{self.receiver.read(1)!r} behind a fault")

    def _expect_fault(self) -> None:
        assert self.receiver.receiving == ReceiveState.BROKEN
        assert self.receiver.faults[1] == (Fault.SILENT if self.silent else Fault.LATE)
        assert self.silent or self.split_late

    @property
    def held(self) -> int:
        """The application's bytes that were delivered and looked at, but are not read."""
        while self._heard < len(self.chunks) and self.chunks[self._heard][0] <= self.delivered:
            self._heard += 1
        heard = self.chunks[self._heard - 1][1] if self._heard else 0
        return max(0, heard - len(self.got))

    def _expect_little_held(self) -> None:
        held = self.held
        assert held <= (0 if self.impatient or self.finished else HELD_MAX)
        if not held:
            self.held_since = 0
            return
        assert self.receiver.receiving == ReceiveState.LOOK
        assert self.written.startswith(b"\xf5L45"[:held], len(self.got))

    def wait(self, now: int, window: int) -> None:
        """Time passes: `window` is when that of an arming is over, 0 for none."""
        if self.begun:
            self.begun_since = self.begun_since or now
        if self.held and self.consumed == self.delivered:
            self.held_since = self.held_since or now
            patience = self.held_since + HOLD_NS if not self.got else 0
            self.impatient |= now >= max(patience, window)

    def is_drained(self, dialect: Dialect) -> bool:
        """Everything that was sent with it has been read."""
        if self.decoder.current == dialect and not self.ended:
            return False
        return self.decoder.left.get(dialect.name, 0) <= self.consumed

    @property
    def live_mark(self) -> tuple[int, int]:
        return self.decoder.marks.get(b"L", (0, 0))


class World:
    def __init__(self, kit: Kit, roles: tuple[Role, Role]) -> None:
        self.kit = kit
        self.roles = roles
        self.ends = (Endpoint(kit.built, roles[0]), Endpoint(kit.built, roles[1], "httpd"))
        self.slots = slots(kit)
        self.dialects = {s.dialect.name: s.dialect for s in self.slots if s.dialect}
        a, b = self.ends
        self.ways = (Way(a, b, Decoder(self.dialects)), Way(b, a, Decoder(self.dialects)))
        self.now = 1
        self.tokens = 0
        self.token: list[bytes | None] = [None, None]  # armed with
        self.fresh = False  # one end is armed with it, the other was not yet
        self.window = [0, 0]
        self.may_go = [False, False]  # its window is open, and it sent no live mark yet
        self.told = [False, False]
        self.until = [0, 0]  # the peer must have ended ...
        self.since = [0, 0]  # ... after so many changes of its stream
        self.late = [False, False]
        self.broken = False

    def close(self) -> None:
        for end in self.ends:
            end.close()

    # -- switches

    def attach(self, end: int, slot: Slot, priority: int) -> None:
        if slot.ends[end] is not None:
            return
        if slot.ends == [None, None]:
            slot.renew()
            if slot.dialect:
                self.dialects[slot.dialect.name] = slot.dialect
        if end in slot.was_on:
            return
        slot.was_on.add(end)
        # Only who may send from the first can open a new stream.
        can_send = slot.dialect is None or (slot.ends[1 - end] or 0) & RECEIVE
        switches = (SEND if can_send else 0) | RECEIVE
        self.ends[end].attach(slot.made, priority, switches)
        if switches & SEND:
            self.ends[1 - end].drain(0)
            self.until[1 - end] = 0
        slot.ends[end], slot.priorities[end] = switches, priority

    def set(self, end: int, slot: Slot, switches: int, priority: int) -> None:
        if slot.ends[end] is None:
            return
        slot.priorities[end] = priority
        self._switch(end, slot, switches if self._is_legal(end, slot, switches) else None)

    def _switch(self, end: int, slot: Slot, switches: int | None) -> None:
        now = slot.ends[end]
        assert now is not None
        slot.ends[end] = now if switches is None else switches
        if (switches or 0) & SEND & ~now:
            self.ends[1 - end].drain(0)
            self.until[1 - end] = 0
        self.ends[end].set(slot.made, slot.priorities[end], slot.ends[end] or 0)

    def _is_legal(self, end: int, slot: Slot, switches: int) -> bool:
        if slot.dialect is None:
            return True
        now, other = slot.ends[end] or 0, slot.ends[1 - end] or 0
        if switches & SEND & ~now and not other & RECEIVE:
            return False
        gone = now & RECEIVE & ~switches
        return not gone or self._is_unused(1 - end, slot, slot.dialect)

    def _is_unused(self, sender: int, slot: Slot, dialect: Dialect) -> bool:
        return not (slot.ends[sender] or 0) & SEND and self.ways[sender].is_drained(dialect)

    def detach(self, end: int, slot: Slot) -> None:
        if slot.ends[end] is None or slot.ends[end]:
            return
        framed = slot.dialect is not None and self.ways[end].decoder.current == slot.dialect
        try:
            self.ends[end].detach(slot.made)
        except StreamError:
            assert framed
            return
        assert not framed
        slot.ends[end] = None

    # -- live streams

    def arm(self, end: int) -> None:
        """Arm one end: with the token that the other is waiting with, else with a new one."""
        token = self.token[1 - end]
        if token is None or not self.fresh:
            if not all(self._can_disarm(one) for one in (0, 1)):
                return
            self.disarm(1 - end)
            self.tokens += 1
            token = b"live%04d" % self.tokens
        self.fresh = self.token[1 - end] is None
        self.ends[end].arm(token, self.now, WINDOW)
        self.token[end], self.window[end] = token, self.now + WINDOW
        self.may_go[end], self.told[end], self.late[end] = True, False, False
        self.ways[1 - end].impatient = False

    def go(self, end: int) -> None:
        if self.token[0] is None or self.token[0] != self.token[1] or not self.may_go[end]:
            return
        try:
            self.ends[end].go(self.now)
        except StreamError:
            assert self.now >= self.go_until(end)
            return
        assert self.now < self.go_until(end)
        self.told[end] = True

    def go_until(self, end: int) -> int:
        """The second half of a window is for the mark to arrive."""
        return self.window[end] - WINDOW // 2

    def disarm(self, end: int) -> None:
        if not self._can_disarm(end):
            return
        self.ends[end].disarm()
        self.token[end], self.may_go[end], self.told[end] = None, False, False

    def _can_disarm(self, end: int) -> bool:
        """No mark is on its way here, nor can one be sent any more."""
        other = 1 - end
        if self.ways[other].live_mark[1] > self.ways[other].consumed:
            return False
        reads_ours = self.ways[end].live_mark[1] > self.ways[end].consumed
        will_go = self.told[other] or reads_ours
        return not (self.may_go[other] and will_go and not self.ways[other].closed)

    # -- time

    def drain(self, end: int, patience: int) -> None:
        peer = self.ways[1 - end]
        if any((slot.ends[1 - end] or 0) & SEND for slot in self.slots if slot.dialect):
            return
        self.until[end], self.since[end] = self.now + patience, peer.receiver.changes[1]
        peer.receiver.drain(self.until[end])

    def _has_ended(self, end: int) -> bool:
        """Since its peer was told to, even if that end was on its way before."""
        peer = self.ways[1 - end]
        return b"E" in peer.decoder.changes[self.since[end] : peer.receiver.changes[1]]

    def tick(self, end: int) -> None:
        way, over = self.ways[1 - end], self.now >= self.window[end]
        framed = way.receiver.receiving == ReceiveState.FRAMED
        self.may_go[end] &= self.now < self.go_until(end)
        self.late[end] |= over and self.token[end] is not None
        way.wait(self.now, self.window[end] if self.token[end] else 0)
        self._expect_late(end)
        then = self.ends[end].tick(self.now)
        assert not then or then > self.now
        if self.until[end] and self.now >= self.until[end]:
            self.until[end] = 0
            way.silent = framed and not self._has_ended(end)
            self.broken |= way.silent
            assert (way.receiver.receiving == ReceiveState.BROKEN) == way.silent

    def _expect_late(self, end: int) -> None:
        """A mark that was read in part is late when nothing is held any more."""
        way = self.ways[1 - end]
        new = way.begun_since and self.now - HOLD_NS >= way.begun_since
        in_part = way.begun or way.is_cut
        way.split_late |= bool(in_part and (self.late[end] or way.impatient or new))

    # -- bytes

    def write(self, end: int, app: bytes) -> None:
        way, delays = self.ways[end], 0
        if way.closed:
            return
        while app:
            sent = way.sender.send(app)
            assert 0 < sent.taken <= len(app)
            delays += sent.delay_ms
            self._put(end, sent.wire, app[: sent.taken])
            app = app[sent.taken :]
        assert delays in (0, 250)

    def control(self, end: int) -> None:
        if not self.ways[end].closed:
            self._put(end, self.ways[end].sender.control(), b"")

    def _put(self, end: int, chunk: bytes, app: bytes) -> None:
        way = self.ways[end]
        before = way.live_mark
        tokens = {} if way.decoder.size else {b"N": TOKEN}
        way.put(chunk, app, tokens | {b"L": self.token[end] or bytes(8)})
        assert (way.sender.sending == SendState.FRAMED) == (way.decoder.current is not None)
        if way.live_mark != before:
            assert self.may_go[end]
            assert self.told[end]
            self.may_go[end] = False

    def end(self, end: int) -> None:
        """The application closes its direction."""
        way = self.ways[end]
        way.closed = True
        if not way.flying and not way.finished:
            way.deliver(0)

    def deliver(self, end: int, size: int) -> None:
        """Of what `end` sent; a mark that comes late comes whole."""
        way = self.ways[end]
        if self.late[1 - end] or way.impatient:
            for start, stop in way.decoder.marks.values():
                is_read = way.delivered > start and way.begun
                if start < way.delivered + size < stop and not is_read:
                    size = stop - way.delivered
        way.deliver(size)
        if way.delivered >= way.live_mark[1] > way.consumed and self.may_go[1 - end]:
            self.told[1 - end] = True

    def read(self, end: int, room: int) -> bool:
        """What the other end sent; returns whether there can be more."""
        try:
            more = self.ways[1 - end].read(room)
        except StreamError:
            self.broken = True
            return False
        self._expect_late(end)
        return more

    def finish(self) -> None:
        """Both applications close; everything that was sent arrives and is read."""
        for end in (0, 1):
            self.end(end)
            self.deliver(end, 60_000)
            while not self.broken and self.read(1 - end, 60_000):
                self.deliver(end, 60_000)
            if not self.broken:
                assert self.ends[end].changes[0] == self.ends[1 - end].changes[1]
