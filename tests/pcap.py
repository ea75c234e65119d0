"""Captures of UDP datagrams for tests of dissectors: Ethernet, IPv4, right checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

LINKTYPE_ETHERNET = 1
MICROSECONDS_LITTLE_ENDIAN = 0xA1B2C3D4
ETHERNET = bytes.fromhex("020000000002 020000000001 0800")


@dataclass(frozen=True)
class Datagram:
    payload: bytes
    source: str = "10.10.0.1"
    destination: str = "10.10.0.3"
    source_port: int = 40000
    destination_port: int = 53
    captured: int | None = None
    """Bytes of the frame that the capture kept; all where None."""


def write(path: Path, datagrams: Iterable[Datagram]) -> Path:
    """Write a capture with one frame a datagram, a millisecond apart; return `path`."""
    header = struct.pack(
        "<IHHiIII", MICROSECONDS_LITTLE_ENDIAN, 2, 4, 0, 0, 65535, LINKTYPE_ETHERNET
    )
    records = [_record(number, datagram) for number, datagram in enumerate(datagrams)]
    path.write_bytes(header + b"".join(records))
    return path


def frame(datagram: Datagram) -> bytes:
    """Return the whole Ethernet frame."""
    source = IPv4Address(datagram.source).packed
    destination = IPv4Address(datagram.destination).packed
    length = 8 + len(datagram.payload)
    ports = struct.pack("!HH", datagram.source_port, datagram.destination_port)
    pseudo_header = source + destination + struct.pack("!BBH", 0, 17, length)
    udp = ports + struct.pack("!HH", length, 0) + datagram.payload
    udp_checksum = checksum(pseudo_header + udp) or 0xFFFF
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 17, 0) + source + destination
    return (
        ETHERNET
        + ip[:10]
        + struct.pack("!H", checksum(ip))
        + ip[12:]
        + udp[:6]
        + struct.pack("!H", udp_checksum)
        + udp[8:]
    )


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _record(number: int, datagram: Datagram) -> bytes:
    whole = frame(datagram)
    kept = whole[: datagram.captured]
    return struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(kept), len(whole)) + kept
