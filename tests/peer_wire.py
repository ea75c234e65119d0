"""What was on the wire of a customized stream, read by docs/wire-format.md without the C core."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\xf5L45\x01"
KEY = bytes.fromhex("a1b2c3d4")
"""Parameter of stream_xor in the streams that `restore` can read."""


@dataclass(frozen=True)
class Item:
    """A piece of a stream: M(ark), frame D, P, S or E, or `-`: bytes outside of frames."""

    kind: str
    content: bytes
    head: bytes = b""


def read_wire(stream: bytes) -> list[Item]:
    """Take a stream apart; its plain parts must not contain what begins a mark."""
    items: list[Item] = []
    while stream:
        plain, found, stream = stream.partition(MAGIC)
        if plain:
            items.append(Item("-", plain))
        if found:
            items.append(Item("M", MAGIC + stream[:15]))
            stream = _read_frames(stream[15:], items)
    return items


def _read_frames(stream: bytes, items: list[Item]) -> bytes:
    while stream and (not items or items[-1].kind != "E"):
        kind, head, length = struct.unpack_from("!cBH", stream)
        assert kind in b"DPSE", kind
        content, stream = stream[4 : 4 + length], stream[4 + length :]
        assert len(content) == length, "the stream ends inside a frame"
        items.append(Item(kind.decode(), content[head:], content[:head]))
    return stream


def restore(items: list[Item]) -> bytes:
    """Return what the application wrote, where stream_tag and stream_xor with KEY were used."""
    signature, application = b"", bytearray()
    for item in items:
        if item.kind in "MS":
            signature = item.content[-4:]
        elif item.kind == "D" and signature == b"SXOR":
            application += with_key(item.content)
        else:
            application += item.content
    return bytes(application)


def with_key(content: bytes) -> bytes:
    """Return what stream_xor makes of a frame's content, or of what it made the content."""
    key = (KEY * (len(content) // len(KEY) + 1))[: len(content)]
    return (int.from_bytes(content) ^ int.from_bytes(key)).to_bytes(len(content))


def switched_at(items: list[Item]) -> list[int]:
    """Return how many bytes of the application stand before each switch."""
    place, places = 0, []
    for item in items:
        if item.kind == "S":
            places.append(place)
        elif item.kind in "DP":
            place += len(item.content)
    return places


def kinds(items: list[Item]) -> str:
    """Return the kinds of the pieces, runs of the same as one."""
    text = ""
    for item in items:
        if not text.endswith(item.kind):
            text += item.kind
    return text
