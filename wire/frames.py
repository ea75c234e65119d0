"""Frames of the control channel: an unsigned 32-bit length in network order, then msgpack.

The reader is a pure state machine (bytes in, values out): it serves asyncio in the service and
the agent, green threads in the Ryu application, and property tests, alike.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgpack

MAX_FRAME = 4 * 1024 * 1024
"""Largest frame content in bytes; a longer announced length ends the connection."""

HEADER = struct.Struct("!I")


class FrameError(ValueError):
    """The peer sent bytes that are not a frame; the connection cannot go on."""


def encode(value: Any) -> bytes:  # noqa: ANN401 - anything that msgpack can carry
    """Return `value` as one frame.

    Raises FrameError where the content would be longer than MAX_FRAME.
    """
    content: bytes = msgpack.packb(value, use_bin_type=True)
    if len(content) > MAX_FRAME:
        raise FrameError(f"frame of {len(content)} bytes, at most {MAX_FRAME} are allowed")
    return HEADER.pack(len(content)) + content


class FrameReader:
    """Takes a byte stream in pieces of any size and gives the values of whole frames.

    It never holds more than one incomplete frame plus what one `feed` brought. After a
    FrameError it must not be fed again.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max = max_frame
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> Iterator[Any]:
        """Yield the value of each frame that `data` completes.

        Raises FrameError on a length over the maximum, before anything is kept of that frame,
        and on content that is not exactly one msgpack value.
        """
        self._buffer += data
        offset = 0
        try:
            while (end := self._frame_end(offset)) is not None:
                value = _decode(memoryview(self._buffer)[offset + HEADER.size : end])
                offset = end
                yield value
        finally:
            del self._buffer[:offset]

    def _frame_end(self, offset: int) -> int | None:
        """Where the frame at `offset` ends, or None while it is incomplete."""
        if len(self._buffer) - offset < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(self._buffer, offset)
        if length > self._max:
            raise FrameError(f"frame of {length} bytes announced, at most {self._max} are allowed")
        end = offset + HEADER.size + int(length)
        return end if end <= len(self._buffer) else None


def _decode(content: memoryview) -> Any:  # noqa: ANN401
    try:
        return msgpack.unpackb(content, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise FrameError(f"frame is not msgpack: {error}") from error
    finally:
        content.release()
