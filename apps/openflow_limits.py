"""What one switch may make us hold or do: packet-ins, unfinished replies, ports.

Pure: the caller says what time it is.
"""

from __future__ import annotations

from apps.openflow_check import HEADER_BYTES, MalformedMessage, Type
from controller.bucket import Bucket

PACKET_INS_PER_SECOND = 1000.0
PACKET_IN_BURST = 1000.0
"""More than our meter in the switch lets through, so this one is for switches without it."""

ERRORS_PER_SECOND = 10.0
ERROR_BURST = 100.0
"""Each of them is a line or two in the log."""

OPEN_REPLIES = 64
OPEN_REPLY_BYTES = 16 * 1024 * 1024
"""Multipart replies whose last part is still to come: some 150,000 flow entries in all."""

PORTS = 4096
PORT_BYTES = 64
MULTIPART_BODY = 16
PORT_DESCRIPTION = 13
MORE = 1
PORT_DELETED = 1


class Limits:
    """What has come over one connection so far."""

    def __init__(self, now: float) -> None:
        self._buckets = {
            Type.PACKET_IN: Bucket(PACKET_INS_PER_SECOND, PACKET_IN_BURST, now),
            Type.ERROR: Bucket(ERRORS_PER_SECOND, ERROR_BURST, now),
        }
        self._open: dict[int, int] = {}
        self._ports: set[int] = set()

    def admit(self, msg_type: int, data: bytes, now: float) -> bool:
        """Return whether a checked message is to be handled; False drops it.

        Raises MalformedMessage where the switch goes on with what has no end.
        """
        if msg_type in self._buckets:
            return self._buckets[Type(msg_type)].take(now)
        if msg_type == Type.MULTIPART_REPLY:
            self._count_reply(data)
        elif msg_type == Type.PORT_STATUS:
            self._count_port(data, MULTIPART_BODY, deleted=data[HEADER_BYTES] == PORT_DELETED)
        return True

    def _count_reply(self, data: bytes) -> None:
        transaction = int.from_bytes(data[4:8], "big")
        kind, flags = data[8:10], int.from_bytes(data[10:12], "big")
        if flags & MORE:
            self._open[transaction] = self._open.get(transaction, 0) + len(data)
            if len(self._open) > OPEN_REPLIES or sum(self._open.values()) > OPEN_REPLY_BYTES:
                raise MalformedMessage("multipart replies without an end")
        else:
            self._open.pop(transaction, None)
        if int.from_bytes(kind, "big") == PORT_DESCRIPTION:
            for offset in range(MULTIPART_BODY, len(data), PORT_BYTES):
                self._count_port(data, offset)

    def _count_port(self, data: bytes, offset: int, deleted: bool = False) -> None:
        port = int.from_bytes(data[offset : offset + 4], "big")
        if deleted:
            self._ports.discard(port)
            return
        self._ports.add(port)
        if len(self._ports) > PORTS:
            raise MalformedMessage(f"more than {PORTS} ports")
