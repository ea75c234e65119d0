"""HTTP connections that cut off a peer which does not read."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

STALL_SECONDS = 20.0
"""How long a peer may take nothing of what waits for it."""


class HttpConnection(H11Protocol):
    """Uvicorn's connection, with an end to waiting.

    What waits for a peer is bounded without it; but a stream of events to one that never reads
    would take a place for ever.
    """

    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Begin to count the time in which the peer does not read."""
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(STALL_SECONDS, self._cut_off)

    def resume_writing(self) -> None:
        """Stop counting: the peer reads again."""
        super().resume_writing()
        self._stop_counting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        self._stop_counting()
        super().connection_lost(exc)

    def _stop_counting(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _cut_off(self) -> None:
        log.warning("a REST client has read nothing for %g s, and is cut off", STALL_SECONDS)
        self.transport.abort()


class LocalConnection(HttpConnection):
    """One on a Unix socket: its client is the user and the process that the kernel names."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel who it is."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _gid = struct.unpack("3i", credentials)
        self.client = (str(uid), pid)
