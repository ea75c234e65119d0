"""Link discovery frames: LLDP (IEEE 802.1AB) with a code that hosts cannot forge.

A frame names the switch port it was sent out of. Where it comes in again, a link ends. The code
is an HMAC under a key that only this process has: a host that sees a frame can play it back, but
not write one about another port.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from controller.steering import LLDP_ADDRESS, LLDP_TYPE

SOURCE = bytes.fromhex("024c34350000")
ORGANIZATION = b"\x02\x4c\x34"
LOCALLY_ASSIGNED = 7
CODE_BYTES = 16
LIFETIME_SECONDS = 15

_FIXED = struct.Struct("!6s6sH HBQ HBL HH H3sB")


def _tlv(kind: int, length: int) -> int:
    return kind << 9 | length


def encode(dpid: int, port: int, key: bytes) -> bytes:
    """Return the frame to send out of `port` of switch `dpid`."""
    code = hmac.digest(key, struct.pack("!QL", dpid, port), hashlib.sha256)[:CODE_BYTES]
    fixed = _FIXED.pack(
        bytes.fromhex(LLDP_ADDRESS.replace(":", "")), SOURCE, LLDP_TYPE,
        _tlv(1, 9), LOCALLY_ASSIGNED, dpid,
        _tlv(2, 5), LOCALLY_ASSIGNED, port,
        _tlv(3, 2), LIFETIME_SECONDS,
        _tlv(127, 4 + CODE_BYTES), ORGANIZATION, 1,
    )  # fmt: skip
    return fixed + code + _tlv(0, 0).to_bytes(2, "big")


def decode(frame: bytes, key: bytes) -> tuple[int, int] | None:
    """Return the switch and port that a frame was sent out of; None where it is not ours."""
    if len(frame) < _FIXED.size:
        return None
    fields = _FIXED.unpack_from(frame)
    dpid, port = fields[5], fields[8]
    expected = encode(dpid, port, key)
    if not hmac.compare_digest(frame[: len(expected)], expected):
        return None
    return int(dpid), int(port)
