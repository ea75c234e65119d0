"""Frames: any segmentation gives the same values; no bytes hang, crash or grow the reader."""

import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wire.frames import HEADER, MAX_FRAME, FrameError, FrameReader, encode

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(values, max_size=5), st.data())
def test_any_segmentation_gives_the_same_values(sent: list[Any], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == sent
    assert reader.pending == 0


def test_byte_by_byte() -> None:
    stream = encode({"type": "a"}) + encode([1, 2])
    reader = FrameReader()
    received = [value for byte in stream for value in reader.feed(bytes([byte]))]
    assert received == [{"type": "a"}, [1, 2]]


@given(st.lists(st.binary(max_size=200), max_size=10))
@example([struct.pack("!I", 4) + b"\xdd\xff\xff\xff\xff"])  # a list of 2**32 - 1 values, unsent
@example([struct.pack("!I", 3) + b"\xc7\x00\xff"])  # a time stamp of no bytes
@example([struct.pack("!I", 3) + b"\x81\x90\x90"])  # a list as a key
@example([struct.pack("!I", 0)])
def test_garbage_gives_values_or_frame_error(pieces: list[bytes]) -> None:
    reader = FrameReader(max_frame=1000)
    try:
        for piece in pieces:
            list(reader.feed(piece))
            assert reader.pending <= 1000 + HEADER.size
    except FrameError:
        pass


@given(st.binary(min_size=1, max_size=300))
def test_garbage_in_a_right_frame_gives_its_value_or_frame_error(content: bytes) -> None:
    try:
        expected = msgpack.unpackb(content)
    except Exception:
        with pytest.raises(FrameError):
            list(FrameReader().feed(HEADER.pack(len(content)) + content))
    else:
        assert repr(list(FrameReader().feed(HEADER.pack(len(content)) + content))) == repr(
            [expected]
        )


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 2**32 - 1])
def test_over_long_frame_is_refused_at_its_header(length: int) -> None:
    with pytest.raises(FrameError, match=f"{length} bytes announced, at most {MAX_FRAME}"):
        list(FrameReader().feed(HEADER.pack(length)))


def test_frame_of_the_maximum_passes_and_one_byte_more_does_not() -> None:
    overhead = len(encode(b"x" * 1000)) - HEADER.size - 1000 + 2  # bin 32 header instead of bin 16
    longest = b"x" * (MAX_FRAME - overhead)
    assert list(FrameReader().feed(encode(longest))) == [longest]
    with pytest.raises(FrameError, match="at most"):
        encode(longest + b"x")


def test_frames_before_a_bad_one_are_delivered() -> None:
    reader = FrameReader()
    values = reader.feed(encode(1) + encode(2) + HEADER.pack(MAX_FRAME + 1))
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(FrameError, match="announced"):
        next(values)


def test_reader_keeps_only_what_is_incomplete() -> None:
    reader = FrameReader()
    frame = encode(b"x" * 1000)
    for _ in range(100):
        assert len(list(reader.feed(frame))) == 1
        assert reader.pending == 0
    list(reader.feed(frame[:500]))
    assert reader.pending == 500


def test_announced_lists_inside_a_frame_take_no_memory() -> None:
    """1000 lists in one another, each of which announces as many values as could ever fit."""
    deep = b"\xdd\x00\x3f\xff\xff" * 1000
    content = deep + b"\xc0" * (MAX_FRAME - len(deep))
    reader = FrameReader()
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="not msgpack"):
            list(reader.feed(HEADER.pack(len(content)) + content))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * MAX_FRAME
