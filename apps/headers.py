"""Where a frame comes from, read from its first bytes.

Frames are written by whoever sits on a host: `ryu.lib.packet` is not used on them, because it can
loop on a TCP payload from port 6653.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.steering import ARP, IPV4, LLDP_TYPE

ETHERNET = struct.Struct("!6s6sH")
ARP_IPV4 = struct.Struct("!HHBBH6s4s")
ARP_IPV4_KIND = (1, IPV4, 6, 4)
IPV4_HEADER_MIN = 20


@dataclass(frozen=True)
class Source:
    """Who sent a frame."""

    mac: str
    address: str | None = None
    """IPv4 address, where the frame names one that a host can have."""
    announced: bool = False
    """Whether the host says itself that it has the address (ARP), not only forwards for it."""


def read(frame: bytes) -> Source | None:
    """Return the source of an Ethernet frame; None where no single host can have sent it."""
    if len(frame) < ETHERNET.size:
        return None
    _, source, ethertype = ETHERNET.unpack_from(frame)
    if source[0] & 1 or not any(source):
        return None
    mac = source.hex(":")
    body = frame[ETHERNET.size :]
    if ethertype == ARP:
        return Source(mac, _arp_address(body, source), announced=True)
    if ethertype == IPV4 and len(body) >= IPV4_HEADER_MIN and body[0] >> 4 == 4:
        return Source(mac, _host_address(body[12:16]))
    return Source(mac)


def kind(frame: bytes) -> int:
    """Return the EtherType; 0 where the frame is too short to have one."""
    return int(ETHERNET.unpack_from(frame)[2]) if len(frame) >= ETHERNET.size else 0


def is_lldp(frame: bytes) -> bool:
    """Whether the frame is one of link discovery, ours or a forged one."""
    return kind(frame) == LLDP_TYPE


def _arp_address(body: bytes, source: bytes) -> str | None:
    if len(body) < ARP_IPV4.size:
        return None
    *kind, _operation, sender, address = ARP_IPV4.unpack_from(body)
    if tuple(kind) != ARP_IPV4_KIND or sender != source:
        return None
    return _host_address(address)


def _host_address(raw: bytes) -> str | None:
    address = IPv4Address(raw)
    if address.is_multicast or address.is_loopback or raw[0] in (0, 255):
        return None
    return str(address)
