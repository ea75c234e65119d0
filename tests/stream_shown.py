"""What tshark shows of customized TCP streams."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tests import vectors
from tests.pcap import Segment
from tests.stream_frames import Connection, mark
from tests.tshark import Tshark
from wire.manifest import load

STREAM_TAG = load(vectors.MODULES / "stream_tag" / "manifest.toml")
STREAM_XOR = load(vectors.MODULES / "stream_xor" / "manifest.toml")
NOBODY = 909  # a port without dissector: the application's bytes are shown as `data`
REQUEST = b"GET /file HTTP/1.1\r\nHost: example.org\r\n\r\n"
BODY = random.Random(45).randbytes(6000)  # noqa: S311 - the same each time
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LIVE = mark(kind=b"L")
SECRET = b"\xca\xfe\xba\xbe"

FIELDS = [
    *("tcp.srcport", "tcp.dstport", "data.data", "l45.application", "l45.stream_xor.content"),
    *("l45.stream_tag.tag", "l45.signature"),
]
EXPERTS = ["type", "head", "length", "inside", "signature", "gap"]


@dataclass
class Seen:
    """What tshark shows of one direction of a connection."""

    application: bytes = b""
    """What the port's own dissector got, where that is `data`."""
    module: bytes = b""
    """What the frames had of it."""
    opaque: bytes = b""
    tags: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    experts: list[str] = field(default_factory=list)


def shown(
    tshark: Tshark, segments: Iterable[Segment], *options: str
) -> dict[tuple[int, bool], Seen]:
    """What is shown of each direction, by the client's port and whether the client sent it."""
    names = [*FIELDS, *(f"l45.expert.{name}" for name in EXPERTS)]
    result: dict[tuple[int, bool], Seen] = defaultdict(Seen)
    for row in tshark.fields(list(segments), names, *options):
        source, destination, plain, module, opaque, tags, signatures = row[: len(FIELDS)]
        seen = result[max(int(source), int(destination)), int(source) > int(destination)]
        seen.application += bytes.fromhex(plain.replace(",", ""))
        seen.module += bytes.fromhex(module.replace(",", ""))
        seen.opaque += bytes.fromhex(opaque.replace(",", ""))
        seen.tags += [number for number in tags.split(",") if number]
        seen.signatures += [name for name in signatures.split(",") if name]
        found = zip(EXPERTS, row[len(FIELDS) :], strict=True)
        seen.experts += [name for name, value in found if value]
    return result


def on_ports(*connections: Sequence[bytes], port: int = NOBODY) -> list[Segment]:
    """Segments of many connections, each of whose clients sends these pieces."""
    segments: list[Segment] = []
    for number, pieces in enumerate(connections):
        segments += Connection(port, 50000 + number).client(*pieces).close()
    return segments


def renumbered(segment: Segment, port: int) -> Segment:
    if segment.source_port == 50000:
        return replace(segment, source_port=port)
    return replace(segment, destination_port=port)
