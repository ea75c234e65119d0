"""Ports for servers that have to be told one before they listen."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000
TRIES = 100


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody has.

    It is none of those that the kernel takes for connections: one of these may be gone before the
    server listens.
    """
    first, last = map(int, RANGE.read_text(encoding="ascii").split())
    lowest, end = (LOWEST, first) if first > LOWEST else (last + 1, 65_536)
    if lowest >= end:
        raise OSError(f"{RANGE} leaves no port for servers: let it begin above {LOWEST}")
    for _ in range(TRIES):
        port = lowest + secrets.randbelow(end - lowest)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError(f"none of {TRIES} ports between {lowest} and {end} is free")
