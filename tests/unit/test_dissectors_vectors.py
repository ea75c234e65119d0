"""The golden streams of the modules for TCP, in real tshark."""

from __future__ import annotations

import pytest

from tests import vectors
from tests.stream_shown import NOBODY, STREAM_TAG, STREAM_XOR, Seen, on_ports, shown
from tests.tshark import Tshark
from tests.vectors import Stream

MARK_SIZE, HEADER_SIZE = 20, 4
FAULTS = {"frame": {"type", "head", "length"}, "cut": {"inside"}}
"""What the dissector calls the faults that it can see without knowing the receiver."""


def see(tshark: Tshark, module: str, kinds: set[str]) -> list[tuple[Stream, Seen]]:
    streams = [s for s in vectors.load_streams(module) if s.kind in kinds]
    segments = on_ports(*([stream.wire] for stream in streams), port=NOBODY)
    found = shown(tshark, segments, *tshark.dissectors(STREAM_TAG, STREAM_XOR))
    return [(stream, found[50000 + n, True]) for n, stream in enumerate(streams)]


def contents(wire: bytes) -> list[bytes]:
    """Return the contents of the frames behind the mark."""
    found, at = [], MARK_SIZE
    while at < len(wire):
        end = at + HEADER_SIZE + int.from_bytes(wire[at + 2 : at + HEADER_SIZE], "big")
        found.append(wire[at + HEADER_SIZE : end])
        at = end
    return found


def test_tags_are_shown_and_the_application_s_bytes_handed_on(tshark: Tshark) -> None:
    for stream, seen in see(tshark, "stream_tag", {"valid"}):
        assert seen.application == seen.module == b"".join(stream.writes), stream.name
        assert set(seen.tags) == {str(stream.parameters.get("tag", 0))}, stream.name
        assert not seen.experts, stream.name


def test_what_only_the_key_opens_is_shown_as_it_is(tshark: Tshark) -> None:
    for stream, seen in see(tshark, "stream_xor", {"valid"}):
        assert seen.opaque == b"".join(contents(stream.wire)), stream.name
        assert not seen.application, stream.name
        assert not seen.experts, stream.name


@pytest.mark.parametrize("module", ["stream_tag", "stream_xor"])
def test_faults_of_the_format_are_marked(tshark: Tshark, module: str) -> None:
    found = see(tshark, module, {"truncated", "hostile"})
    faulty = [(stream, seen) for stream, seen in found if stream.fault in FAULTS]
    assert len(faulty) >= 2
    for stream, seen in faulty:
        assert set(seen.experts) & FAULTS[stream.fault or ""], (stream.name, seen)
