"""The Ryu application's end of the Unix socket to the NCO service (`controller.switch_link`)."""

from __future__ import annotations

import contextlib
import logging
import struct
import time
from collections.abc import Callable

import eventlet
from eventlet.green import socket
from ryu.lib import hub

from apps.service_process import ServiceProcess
from controller.config import StateFolder
from controller.switch_link import FROM_SERVICE, Steering, SteeringReport, Switches
from wire.frames import FrameError, FrameReader, encode
from wire.messages import MessageError, dump, parse

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.2
SEND_SECONDS = 20.0
"""A service that reads nothing for so long is given up."""

END_SECONDS = 3.0
READ_BYTES = 65536
PEER_CREDENTIALS = struct.Struct("3i")


class ServiceLink:
    """Keeps one connection to the service, and the service running.

    `switches` gives what the service hears first; `wanted` takes what it says. Messages are the
    whole of something: of two that wait to be sent, the later one replaces the earlier one.
    """

    def __init__(
        self,
        state: StateFolder,
        switches: Callable[[], Switches],
        wanted: Callable[[Steering], None],
    ) -> None:
        self._path = state.switches_socket
        self._process = ServiceProcess(state)
        self._switches = switches
        self._wanted = wanted
        self._socket: socket.socket | None = None
        self._unsent: dict[type, Switches | SteeringReport] = {}
        self._sent: Switches | None = None
        self._ending = False

    def run(self) -> None:
        """Connect, read until the connection ends, and again; raises ServiceCannotRunError."""
        while not self._ending:
            connection = self._connect()
            if connection is None:
                self._process.ensure(time.monotonic())
            else:
                self._process.answered()
                self._read(connection)
            hub.sleep(RETRY_SECONDS)

    def put(self, message: Switches | SteeringReport) -> None:
        """Have a message sent with the next `flush`."""
        self._unsent[type(message)] = message

    def flush(self) -> None:
        """Send what waits; without a connection it is dropped, a new one begins with the whole."""
        unsent, self._unsent = self._unsent, {}
        if self._socket is None:
            return
        for message in unsent.values():
            if message != self._sent:
                self._send(self._socket, message)

    def end(self) -> None:
        """End the service that we speak to or started, and wait a moment for it.

        One that stays longer leaves by itself, when its grace time without us is over.
        """
        self._ending = True
        self._process.ask_to_end(_peer(self._socket) if self._socket else None)
        deadline = time.monotonic() + END_SECONDS
        while (self._socket or self._process.running) and time.monotonic() < deadline:
            hub.sleep(0.05)
        if self._socket or self._process.running:
            log.warning("service is slow to end; it leaves after its grace time")

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            log.debug("nobody answers path=%s error=%s", self._path, error)
            connection.close()
            return None
        log.info("service connected pid=%d", _peer(connection))
        self._sent = None
        self._unsent = {Switches: self._switches()}
        self._socket = connection
        return connection

    def _read(self, connection: socket.socket) -> None:
        reader = FrameReader()
        try:
            while data := connection.recv(READ_BYTES):
                for value in reader.feed(data):
                    if message := parse(FROM_SERVICE, value):
                        self._wanted(message)
            log.warning("service disconnected; the switches keep what they have")
        except (OSError, FrameError, MessageError) as error:
            log.warning("service disconnected reason=%s", error)
        finally:
            self._socket = None
            connection.close()

    def _send(self, connection: socket.socket, message: Switches | SteeringReport) -> None:
        try:
            with eventlet.Timeout(SEND_SECONDS, TimeoutError(f"nothing read for {SEND_SECONDS} s")):
                connection.sendall(encode(dump(message)))
        except (OSError, FrameError) as error:
            log.warning("cannot send to the service reason=%s", error)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the reader, which connects anew
            return
        if isinstance(message, Switches):
            self._sent = message


def _peer(connection: socket.socket) -> int:
    """Return the process at the other end of a Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    pid, _user, _group = PEER_CREDENTIALS.unpack(raw)
    return int(pid)
