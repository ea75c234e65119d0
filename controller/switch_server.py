"""The service's side of the Unix socket to the Ryu application: steering out, reports in.

The application is also the service's parent. The service outlives it for a grace time, in which a
new one may take it over, and then leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.channel import FrameChannel, private_listener
from controller.switch_link import (
    FROM_APP,
    MirrorStatus,
    SeenHost,
    Steering,
    SteeringReport,
    Switches,
)
from wire.frames import MAX_FRAME
from wire.messages import parse

log = logging.getLogger(__name__)

MAX_UNSENT = 4 * MAX_FRAME
STALL_TIME = 20.0


class _Application(FrameChannel):
    """One connection of a Ryu application."""

    def __init__(self, server: SwitchServer) -> None:
        super().__init__(max_frame=MAX_FRAME, max_unsent=MAX_UNSENT, stall_time=STALL_TIME)
        self.peer = "ryu"
        self._server = server

    def opened(self, transport: asyncio.Transport) -> None:
        self._server.attach(self)

    def received(self, value: Any) -> None:  # noqa: ANN401 - untrusted
        message = parse(FROM_APP, value)
        if message is not None:
            self._server.told(self, message)

    def closed(self) -> None:
        self._server.detach(self)


class SwitchServer:
    """Knows what the application knows, and tells it what the switches should have."""

    def __init__(self, steering: Callable[[], Steering]) -> None:
        """`steering` gives the whole set that is wanted now."""
        self._wanted = steering
        self._application: _Application | None = None
        self._sent: Steering | None = None
        self._connected: list[int] = []
        self._seen: dict[str, SeenHost] = {}
        self._mirrors: dict[str, MirrorStatus] = {}
        self._left = asyncio.get_running_loop().time()

    @property
    def connected(self) -> bool:
        """Whether an application is connected."""
        return self._application is not None

    @property
    def switches(self) -> list[int]:
        """Datapath identifiers of the connected switches."""
        return list(self._connected)

    def seen(self, address: str) -> SeenHost | None:
        """Return where the switches see a host."""
        return self._seen.get(address)

    def mirror(self, mirror_id: str) -> MirrorStatus | None:
        """Return what the application said last of a mirror."""
        return self._mirrors.get(mirror_id)

    async def run(self, path: Path) -> None:
        """Serve on a Unix socket that only the owner may open, until cancelled."""
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Application(self), sock=private_listener(path)
        )
        try:
            await server.serve_forever()
        finally:
            if self._application is not None:
                self._application.abort("the service ends")

    def push(self) -> None:
        """Send what is wanted if the application does not have it."""
        wanted = self._wanted()
        if self._application is not None and wanted != self._sent:
            self._sent = wanted
            self._application.send(wanted)

    async def deserted(self, grace: float) -> None:
        """Return once no application has been connected for `grace` seconds; 0: never."""
        loop = asyncio.get_running_loop()
        while grace == 0 or self.connected or loop.time() < self._left + grace:
            remaining = self._left + grace - loop.time()
            await asyncio.sleep(max(0.05, remaining) if grace and not self.connected else 1.0)

    def attach(self, application: _Application) -> None:
        """Take over a new connection; the newest one wins."""
        old, self._application = self._application, application
        log.info("application connected")
        if old is not None:
            old.close("a newer application took its place")
        self._sent = None
        self._mirrors = {}
        self.push()

    def detach(self, application: _Application) -> None:
        """Note that a connection has ended."""
        if self._application is application:
            log.warning("application disconnected; switches keep what they have")
            self._application = None
            self._left = asyncio.get_running_loop().time()
            self._connected, self._seen, self._mirrors = [], {}, {}

    def told(self, application: _Application, message: Switches | SteeringReport) -> None:
        """Take over what the application says."""
        if application is not self._application:
            return
        if isinstance(message, Switches):
            self._connected = list(message.connected)
            self._seen = {host.address: host for host in message.hosts}
        else:
            self._mirrors = {mirror.id: mirror for mirror in message.mirrors}
