"""Customized TCP streams as docs/wire-format.md says, written without a look at the C core.

Marks and frames as bytes, and connections whose segments carry them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.pcap import ACK, FIN, PSH, SYN, Segment

TOKEN = bytes(range(8))


def mark(
    signature: bytes = b"STAG", epoch: int = 1, kind: bytes = b"N", token: bytes = TOKEN
) -> bytes:
    return b"\xf5L45\x01" + kind + token + struct.pack("!H", epoch) + signature


def frame(kind: bytes, content: bytes = b"", head: int = 0) -> bytes:
    return kind + struct.pack("!BH", head, len(content)) + content


def data(application: bytes, head: bytes = b"") -> bytes:
    return frame(b"D", head + application, len(head))


def untouched(application: bytes) -> bytes:
    return frame(b"P", application)


def switch(signature: bytes, epoch: int) -> bytes:
    return frame(b"S", struct.pack("!H", epoch) + signature)


END = frame(b"E")


def tag(number: int = 42, process: bytes = b"curl") -> bytes:
    """The head of a frame of stream_tag."""
    return b"STAG" + struct.pack("!Q", number) + process.ljust(16, b"\0")


def tagged(application: bytes, interval: int = 1000, number: int = 42) -> bytes:
    """`application` in frames of stream_tag, each with a tag."""
    pieces = [application[n : n + interval] for n in range(0, len(application), interval)]
    return b"".join(data(piece, tag(number)) for piece in pieces)


def in_pieces(stream: bytes, *cuts: int) -> list[bytes]:
    """`stream`, cut at these places."""
    return [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]


def every(stream: bytes, size: int) -> list[bytes]:
    """`stream` in pieces of `size` bytes."""
    return in_pieces(stream, *range(size, len(stream), size))


@dataclass
class Connection:
    """Makes the segments of one connection, beginning with the handshake."""

    port: int = 80
    client_port: int = 40000
    client_sequence: int = 2**32 - 5  # wraps around soon
    server_sequence: int = 700
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._add(from_client=True, payload=b"", flags=SYN)
        self._add(from_client=False, payload=b"", flags=SYN | ACK)
        self._add(from_client=True, payload=b"", flags=ACK)

    def client(self, *payloads: bytes) -> Connection:
        for payload in payloads:
            self._add(from_client=True, payload=payload, flags=PSH | ACK)
        return self

    def server(self, *payloads: bytes) -> Connection:
        for payload in payloads:
            self._add(from_client=False, payload=payload, flags=PSH | ACK)
        return self

    def close(self) -> Connection:
        """Both ends close, the client first."""
        self._add(from_client=True, payload=b"", flags=FIN | ACK)
        self._add(from_client=False, payload=b"", flags=FIN | ACK)
        self._add(from_client=True, payload=b"", flags=ACK)
        return self

    def _add(self, *, from_client: bool, payload: bytes, flags: int) -> None:
        segment = Segment(payload, destination_port=self.port, source_port=self.client_port)
        length = len(payload) + bool(flags & (SYN | FIN))
        sequence, acknowledged = self.client_sequence, self.server_sequence
        if from_client:
            self.client_sequence += length
        else:
            segment = turned(segment)
            sequence, acknowledged = acknowledged, sequence
            self.server_sequence += length
        known = acknowledged if flags & ACK else 0
        self.segments.append(replace(segment, sequence=sequence, acknowledged=known, flags=flags))

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)


def turned(segment: Segment) -> Segment:
    """The same segment in the other direction."""
    return replace(
        segment,
        source=segment.destination,
        destination=segment.source,
        source_port=segment.destination_port,
        destination_port=segment.source_port,
    )
