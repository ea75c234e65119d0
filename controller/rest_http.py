"""HTTP connections on a Unix socket, which know who is at the other end."""

from __future__ import annotations

import asyncio
import socket
import struct

from wire.http_connection import HttpConnection


class LocalConnection(HttpConnection):
    """One on a Unix socket: its client is the user and the process that the kernel names."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel who it is."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _gid = struct.unpack("3i", credentials)
        self.client = (str(uid), pid)
