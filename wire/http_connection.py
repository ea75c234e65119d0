"""HTTP connections that take nobody's place for ever: those of the NCO, and the agent's metrics."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

log = logging.getLogger(__name__)

STALL_SECONDS = 20.0
"""How long a peer may take nothing of what waits for it."""

REQUEST_SECONDS = 20.0
"""How long a peer may take to say what it wants; between two requests uvicorn counts."""

INTRODUCED = "l45.introduced"
"""Where the state of a request has what to call once its caller is known."""


class HttpConnection(H11Protocol):
    """Uvicorn's connection, with an end to waiting.

    Uvicorn bounds what waits for a peer, but neither how long it waits for one that does not read,
    nor for one that does not say, or not to the end, what it wants.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.introduced = asyncio.Event()
        """Set once the caller is known, or gone."""
        state = {**app_state, INTRODUCED: self.introduced.set}
        super().__init__(config, server_state, state, _loop)
        self._stalled: asyncio.TimerHandle | None = None
        self._asking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count, where there is room for it."""
        super().connection_made(transport)
        if (
            self.limit_concurrency is not None
            and len(self.connections) > 2 * self.limit_concurrency
        ):
            transport.abort()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Count until a request is whole."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect_request()
        else:
            self._stop_asking()

    def pause_writing(self) -> None:
        """Begin to count the time in which the peer does not read."""
        super().pause_writing()
        reason = f"it has read nothing for {STALL_SECONDS:g} s"
        self._stalled = self.loop.call_later(STALL_SECONDS, self._cut_off, reason)

    def resume_writing(self) -> None:
        """Stop counting: the peer reads again."""
        super().resume_writing()
        self._stop_stalled()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        self._stop_stalled()
        self._stop_asking()
        self.introduced.set()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self._asking is None and not self.transport.is_closing():
            reason = f"it has not said within {REQUEST_SECONDS:g} s what it wants"
            self._asking = self.loop.call_later(REQUEST_SECONDS, self._cut_off, reason)

    def _cut_off(self, reason: str) -> None:
        log.warning("an HTTP client is cut off: %s", reason)
        self.transport.abort()

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
