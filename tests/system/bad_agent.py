"""An agent as no NCO wants it: `python -m tests.system.bad_agent KIND HOST CREDENTIALS PORT`.

It connects again and again, until it is ended. `floods` says more than anybody reads, in frames as
large as are allowed; `mute` asks for what it should have, again and again, and never reads again.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from wire.frames import FrameReader, encode
from wire.identity import NCO_NAME, Credentials
from wire.messages import FROM_NCO, Desired, Hello, Need, dump, parse

FRAME = 200 * 1024
"""Bytes; the NCO takes 256 KiB."""


def floods(sock: ssl.SSLSocket) -> None:
    noise = encode({"type": "heartbeat", "generation": 0, "noise": [list(range(100))] * 2000})
    assert len(noise) > FRAME
    while True:
        sock.sendall(noise)


def mute(sock: ssl.SSLSocket) -> None:
    asked = encode(dump(Need(digests=_wanted(sock))))
    while True:
        sock.sendall(asked)
        time.sleep(0.1)  # more would be a flood


def _wanted(sock: ssl.SSLSocket) -> list[str]:
    """Read until there is something to ask for."""
    reader = FrameReader()
    while data := sock.recv(65536):
        for value in reader.feed(data):
            message = parse(FROM_NCO, value)
            if isinstance(message, Desired) and message.customizations:
                return [one.digest for one in message.customizations]
            sock.sendall(encode({"type": "heartbeat", "generation": 0}))
    raise ConnectionError("closed")


KINDS: dict[str, Callable[[ssl.SSLSocket], None]] = {"floods": floods, "mute": mute}


def main(kind: str, host: str, credentials: str, port: str) -> None:
    context = Credentials(Path(credentials)).client_context()
    hello = Hello(host=host, boot_id="b", kernel="6.18", tap="bpf", targets=["bpf"])
    while True:
        with suppress(OSError):
            raw = socket.create_connection(("127.0.0.1", int(port)))
            with context.wrap_socket(raw, server_hostname=NCO_NAME) as sock:
                sock.sendall(encode(dump(hello)))
                KINDS[kind](sock)
        time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
