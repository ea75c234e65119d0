"""One end of a connection that carries frames, with bounds on everything a peer can make grow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import BaseModel

from controller.pushes import PIECE, TURN, Pushes
from wire.frames import FrameError, FrameReader, encode
from wire.messages import MessageError, dump

log = logging.getLogger(__name__)

CLOSING_TIME = 5.0
"""Seconds that a peer has to take what was written before a close."""

BUFFERED = 3 * PIECE
"""Bytes that may wait in a connection before it writes no more of what is large."""

READ = 64 * 1024
"""Bytes that are read at a time."""


def private_listener(path: Path) -> socket.socket:
    """Return a Unix socket, bound where a stale one may lie, that only the owner may open."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


class _Inbox(threading.local):
    """Where what is read lies, for all connections of a loop: each is done with it at once.

    Else TLS takes and gives back 256 KB for each message, which costs as much as all the rest.
    """

    def __init__(self) -> None:
        self.space = memoryview(bytearray(READ))


_inbox = _Inbox()


@dataclass
class Traffic:
    """Bytes of frames, without what TLS adds, since the service began."""

    sent: int = 0
    received: int = 0


class FrameChannel(asyncio.BufferedProtocol):
    """Base of the service's connections.

    A peer that sends what is no frame or no message, that announces a frame over the maximum, or
    that does not read what it is sent, is cut off, with one line in the log.

    What is large goes out in turns with other connections (`push`). A frame that was begun is ended
    before another one begins; what is small (`send`) goes before what is large and was not begun.
    """

    traffic: ClassVar[Traffic] = Traffic()
    """Of all connections of a class."""

    def __init__(
        self, *, max_frame: int, max_unsent: int, stall_time: float, pushes: Pushes | None = None
    ) -> None:
        """`max_unsent` bytes may wait for the peer, none of them longer than `stall_time` s.

        `pushes` has the connections that take turns, where large frames are to be sent.
        """
        self.peer = "?"
        self._reader = FrameReader(max_frame)
        self._max_unsent = max_unsent
        self._stall_time = stall_time
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._pushes = pushes
        self._large: list[bytes] = []
        """Large frames, the first of which may be out in part."""
        self._written = 0
        """Bytes of the first large frame that are out."""
        self._behind: list[bytes] = []
        """Small frames that wait for the end of a large one."""
        self._has_turns = False
        self._is_paused = False

    # -- for subclasses

    def opened(self, transport: asyncio.Transport) -> None:
        """Take note that the connection stands."""

    def received(self, value: Any) -> None:  # noqa: ANN401 - untrusted
        """Take the value of one frame; a MessageError ends the connection."""
        raise NotImplementedError

    def closed(self) -> None:
        """Take note that the connection has ended."""

    # -- for owners

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: BaseModel) -> None:
        """Send without waiting; nothing happens on a connection that has ended."""
        if self._transport is None or not self.is_open:
            return
        frame = encode(dump(message))
        self.traffic.sent += len(frame)
        if self._written:
            self._behind.append(frame)
        else:
            self._transport.write(frame)
        if self._unsent(self._transport) > self._max_unsent:
            self.abort(f"does not read: over {self._max_unsent} bytes wait for it")

    def push(self, frame: bytes) -> None:
        """Send a large frame in turns with other connections; one that waits already goes once."""
        assert self._pushes is not None, "it was made without"  # noqa: S101
        if self.is_open and not any(frame is waiting for waiting in self._large):
            self._large.append(frame)
            self._want_turns()

    def _want_turns(self) -> None:
        if self._pushes is not None and not self._has_turns:
            self._has_turns = True
            self._pushes.add(self)

    def _unsent(self, transport: asyncio.Transport) -> int:
        return transport.get_write_buffer_size() + sum(map(len, self._behind))

    def close(self, reason: str) -> None:
        """Close once the peer has what was written, or after a short while."""
        if self._transport is None or not self.is_open:
            return
        log.info("peer=%s closing: %s", self.peer, reason)
        self._transport.close()
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(CLOSING_TIME, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Close at once, and say why."""
        if self.is_open:
            log.warning("peer=%s cut off: %s", self.peer, reason)
            self.drop()

    def drop(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- for those who take turns

    def take_turn(self) -> bool:
        """Write a little of what is large; whether there is more that can be written now."""
        left = TURN
        self._cork(True)  # the pieces of a turn are no packets: the peer is not woken for each
        while left > 0 and self._large and self.is_open and not self._is_paused:
            self._write_piece(cast(asyncio.Transport, self._transport))
            left -= PIECE
        self._cork(False)
        self._has_turns = bool(self._large) and self.is_open and not self._is_paused
        return self._has_turns

    def _cork(self, on: bool) -> None:
        """Have the kernel wait with what is written, or send it."""
        if self._transport is not None and self.is_open:
            sock: socket.socket = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):  # a connection that ends sends nothing any more
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    def _write_piece(self, transport: asyncio.Transport) -> None:
        frame = self._large[0]
        end = self._written + PIECE
        piece = memoryview(frame)[self._written : end]
        self.traffic.sent += len(piece)
        transport.write(piece)
        self._written = end
        if end >= len(frame):
            self._large.pop(0)
            self._written = 0
            for small in self._behind:
                transport.write(small)
            self._behind.clear()

    # -- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self._transport.set_write_buffer_limits(high=BUFFERED)
        self.opened(self._transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where what comes next is to be put."""
        return _inbox.space

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over each frame that is complete."""
        if not self.is_open:
            return
        self.traffic.received += nbytes
        try:
            for value in self._reader.feed(_inbox.space[:nbytes]):
                self.received(value)
                if not self.is_open:
                    return
        except (FrameError, MessageError) as error:
            self.abort(f"bad message: {error}")
        except Exception:
            log.exception("peer=%s a message could not be handled", self.peer)
            self.abort("internal error")

    def pause_writing(self) -> None:
        """Begin to count the time in which the peer does not read."""
        self._is_paused = True
        loop = asyncio.get_running_loop()
        reason = f"does not read: nothing taken for {self._stall_time:g} s"
        self._stalled = loop.call_later(self._stall_time, self.abort, reason)

    def resume_writing(self) -> None:
        """Stop counting: the peer reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._is_paused = False
        if self._large:
            self._want_turns()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        for timer in (self._stalled, self._closing):
            if timer is not None:
                timer.cancel()
        if exc is not None:
            log.info("peer=%s connection lost: %s", self.peer, exc)
        self.closed()
        self._transport = None  # else each holds the other until all objects are looked at
