"""Throws the bytes of a file at a socket and goes away: `throw.py HOST:PORT|PATH FILE`."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path


def main(target: str, file: str) -> None:
    """Connect, send all, wait shortly for an answer or the end, close."""
    if "/" in target:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(target)
    else:
        host, port = target.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), 5)
    connection.settimeout(1)
    # The other end may close, or stop reading, before it has everything: that is its right.
    with connection, contextlib.suppress(OSError):
        connection.sendall(Path(file).read_bytes())
        while connection.recv(4096):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
