"""A service for the Ryu application to speak to: steering from stdin, what it hears to stdout.

One JSON document a line, each way. A process of its own, as the real service is: the application
ends it by its pid.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

from wire.frames import FrameReader, encode


class StandIn:
    """Serves one application at a time; a new one hears the last steering first."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._peer: socket.socket | None = None
        self._last = b""

    def serve(self) -> None:
        while True:
            self._peer, _ = self._listener.accept()
            self._peer.sendall(self._last)
            reader = FrameReader()
            while data := self._peer.recv(65536):
                for message in reader.feed(data):
                    print(json.dumps(message), flush=True)

    def steer(self, line: str) -> None:
        self._last = encode(json.loads(line))
        if self._peer:
            self._peer.sendall(self._last)


if __name__ == "__main__":
    stand_in = StandIn(sys.argv[1])
    threading.Thread(target=stand_in.serve, daemon=True).start()
    for line in sys.stdin:
        stand_in.steer(line)
