"""The door of a port to which everybody may connect: who comes in, and who is sent away for it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from controller.strangers import Strangers

log = logging.getLogger(__name__)

Address = tuple[str, int]
"""Of a peer: host and port."""

Welcome = Callable[[socket.socket, Address], Coroutine[Any, Any, None]]
"""Takes a connection over, and returns once the peer is no stranger any more, or is gone; one that
is cancelled sends the peer away."""


class HandshakeError(Exception):
    """A handshake failed; the text says why, and is empty where the peer broke it off."""


async def hand_over(
    sock: socket.socket,
    connection: asyncio.BaseProtocol,
    context: ssl.SSLContext | None,
    seconds: float,
) -> None:
    """Have a protocol take a connection over, once TLS stands where there is a context.

    The peer has so many seconds for it; raises HandshakeError.
    """
    limit = seconds if context else None
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,  # and what comes back is not asked: that is uvloop's TLS
            sock,
            ssl=context,
            ssl_handshake_timeout=limit,
            ssl_shutdown_timeout=limit,
        )
    except (OSError, EOFError) as error:
        raise HandshakeError(str(error)) from error


class Door:
    """Accepts peers; `controller.strangers` says whom, where there are many."""

    def __init__(self, whose: str, room: int, welcome: Welcome) -> None:
        """Let `room` strangers in at a time; `whose` door it is, the log says."""
        self._whose = whose
        self._welcome = welcome
        self._strangers: Strangers[asyncio.Task[None]] = Strangers(room)

    async def run(self, listener: socket.socket) -> None:
        """Accept until cancelled, then send strangers away, and close the listener."""
        listener.setblocking(False)
        try:
            while True:
                await self._accept(listener)
        finally:
            listener.close()
            tasks = self._strangers.all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = await asyncio.get_running_loop().sock_accept(listener)
        except OSError as error:  # out of file descriptors, say
            log.error("%s: cannot accept connections: %s", self._whose, error)
            await asyncio.sleep(1)
            return
        peer = f"{address[0]}:{address[1]}"
        if not self._strangers.has_room(address[0]):
            log.warning("%s: peer=%s turned away: too many unknown peers", self._whose, peer)
            sock.close()
            return
        task = asyncio.create_task(self._welcome(sock, (address[0], address[1])), name=peer)
        task.add_done_callback(self._ended)
        leaving = self._strangers.add(task, address[0])
        if leaving is not None:
            log.warning(
                "%s: peer=%s the oldest unknown one of many is sent away",
                *(self._whose, leaving.get_name()),
            )
            leaving.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._strangers.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: peer=%s failed", self._whose, task.get_name(), exc_info=error)
