"""One end of a connection that carries frames, with bounds on everything a peer can make grow."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wire.frames import FrameError, FrameReader, encode
from wire.messages import MessageError, dump

log = logging.getLogger(__name__)

CLOSING_TIME = 5.0
"""Seconds that a peer has to take what was written before a close."""


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


class FrameChannel(asyncio.Protocol):
    """Base of the service's connections.

    A peer that sends what is no frame or no message, that announces a frame over the maximum, or
    that does not read what it is sent, is cut off, with one line in the log.
    """

    def __init__(self, *, max_frame: int, max_unsent: int, stall_time: float) -> None:
        """`max_unsent` bytes may wait for the peer, none of them longer than `stall_time` s."""
        self.peer = "?"
        self._reader = FrameReader(max_frame)
        self._max_unsent = max_unsent
        self._stall_time = stall_time
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None

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
        self._transport.write(encode(dump(message)))
        if self._transport.get_write_buffer_size() > self._max_unsent:
            self.abort(f"does not read: over {self._max_unsent} bytes wait for it")

    def close(self, reason: str) -> None:
        """Close once the peer has what was written, or after a short while."""
        if self._transport is None or not self.is_open:
            return
        log.info("peer=%s closing: %s", self.peer, reason)
        self._transport.close()
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(CLOSING_TIME, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Close at once."""
        if self._transport is not None and self.is_open:
            log.warning("peer=%s cut off: %s", self.peer, reason)
            self._transport.abort()

    # -- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise
        self._transport = transport
        self.opened(transport)

    def data_received(self, data: bytes) -> None:
        """Hand over each frame that is complete."""
        if not self.is_open:
            return
        try:
            for value in self._reader.feed(data):
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
        loop = asyncio.get_running_loop()
        reason = f"does not read: nothing taken for {self._stall_time:g} s"
        self._stalled = loop.call_later(self._stall_time, self.abort, reason)

    def resume_writing(self) -> None:
        """Stop counting: the peer reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        for timer in (self._stalled, self._closing):
            if timer is not None:
                timer.cancel()
        if exc is not None:
            log.info("peer=%s connection lost: %s", self.peer, exc)
        self.closed()
