"""What tshark and the generated dissector show of a capture."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dissectors.generate import MODULES, generate
from wire import manifest

FIELDS = (
    "frame.number",
    "ip.src",
    "tcp.srcport",
    "ip.dst",
    "tcp.dstport",
    "_ws.col.Protocol",
    "_ws.col.Info",
    "l45.stream_tag.app_id",
    "l45.stream_tag.tag",
)
PLAIN_PORT = "4000"
"""The port of the program that nobody customized."""


@dataclass(frozen=True)
class Packet:
    """A packet as it is dissected: with the tags in it, each with its application."""

    number: str
    source: str
    source_port: str
    destination: str
    destination_port: str
    protocol: str
    info: str
    tags: tuple[tuple[str, str], ...]

    @property
    def is_plain_program(self) -> bool:
        """Whether it is of the program that nobody customized."""
        return PLAIN_PORT in (self.source_port, self.destination_port)

    @classmethod
    def parse(cls, line: str) -> Packet:
        """Read a line of tshark with FIELDS; a field that occurs often is separated by commas."""
        number, source, port, destination, to_port, protocol, info, names, tags = line.split("\t")
        pairs = zip(names.split(","), tags.split(","), strict=True) if tags else ()
        return cls(number, source, port, destination, to_port, protocol, info, tuple(pairs))


def write_dissector(folder: Path) -> Path:
    """Write stream_tag's dissector; return its file."""
    path = folder / "stream_tag.lua"
    module = manifest.load(MODULES / "stream_tag" / "manifest.toml")
    path.write_text(generate(module), encoding="utf-8")
    return path


def dissect(capture: Path, dissector: Path) -> list[Packet]:
    """Return what tshark shows of the packets that carry data; ChildProcessError if it fails."""
    command = ["tshark", "-n", "-r", str(capture), "-X", f"lua_script:{dissector}"]
    command += ["-d", "tcp.port==8443,tls", "-Y", "tcp.len > 0", "-T", "fields"]
    command += [word for field in FIELDS for word in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildProcessError(f"tshark: {done.stderr}")
    return [Packet.parse(line) for line in done.stdout.splitlines()]


def count_tags(packets: list[Packet]) -> Counter[tuple[str, str, str]]:
    """Count tags by who sent them: address, application and tag."""
    return Counter((packet.source, *tag) for packet in packets for tag in packet.tags)
