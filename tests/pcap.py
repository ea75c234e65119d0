"""Captures of UDP and TCP for tests of dissectors: Ethernet, IPv4, right checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

LINKTYPE_ETHERNET = 1
MICROSECONDS_LITTLE_ENDIAN = 0xA1B2C3D4
ETHERNET = bytes.fromhex("020000000002 020000000001 0800")
TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10


@dataclass(frozen=True)
class Datagram:
    payload: bytes
    source: str = "10.10.0.1"
    destination: str = "10.10.0.3"
    source_port: int = 40000
    destination_port: int = 53
    captured: int | None = None
    """Bytes of the frame that the capture kept; all where None."""


@dataclass(frozen=True)
class Segment:
    """A TCP segment."""

    payload: bytes = b""
    source: str = "10.10.0.1"
    destination: str = "10.10.0.3"
    source_port: int = 40000
    destination_port: int = 80
    sequence: int = 0
    acknowledged: int = 0
    flags: int = ACK
    captured: int | None = None
    """As of a datagram."""


Packet = Datagram | Segment


def write(path: Path, packets: Iterable[Packet]) -> Path:
    """Write a capture with one frame a packet, a millisecond apart; return `path`."""
    header = struct.pack(
        "<IHHiIII", MICROSECONDS_LITTLE_ENDIAN, 2, 4, 0, 0, 65535, LINKTYPE_ETHERNET
    )
    records = [_record(number, packet) for number, packet in enumerate(packets)]
    path.write_bytes(header + b"".join(records))
    return path


def frame(packet: Packet) -> bytes:
    """Return the whole Ethernet frame."""
    addresses = IPv4Address(packet.source).packed + IPv4Address(packet.destination).packed
    protocol, transport = _udp(packet) if isinstance(packet, Datagram) else _tcp(packet)
    pseudo_header = addresses + struct.pack("!BBH", 0, protocol, len(transport))
    at = 6 if protocol == UDP else 16
    right = checksum(pseudo_header + transport)
    if protocol == UDP:
        right = right or 0xFFFF
    transport = transport[:at] + struct.pack("!H", right) + transport[at + 2 :]
    length = 20 + len(transport)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, protocol, 0) + addresses
    return ETHERNET + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + transport


def _udp(datagram: Datagram) -> tuple[int, bytes]:
    ports = struct.pack("!HH", datagram.source_port, datagram.destination_port)
    length = 8 + len(datagram.payload)
    return UDP, ports + struct.pack("!HH", length, 0) + datagram.payload


def _tcp(segment: Segment) -> tuple[int, bytes]:
    header = struct.pack(
        "!HHIIBBHHH",
        segment.source_port,
        segment.destination_port,
        segment.sequence % 2**32,
        segment.acknowledged % 2**32,
        5 << 4,
        segment.flags,
        0xFFFF,
        0,
        0,
    )
    return TCP, header + segment.payload


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _record(number: int, packet: Packet) -> bytes:
    whole = frame(packet)
    kept = whole[: packet.captured]
    return struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(kept), len(whole)) + kept
