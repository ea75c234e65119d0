"""One direction of a customized stream as docs/wire-format.md says, without a look at the C core.

It is fed what an end sends, call by call, so that it knows where frames begin.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests import stream_frames as wire

Content = Literal["tag", "xor", "probe", "whole"]
Name = bytes  # epoch and signature, as marks and switches have them


@dataclass(frozen=True)
class Dialect:
    """What the content of a customization's frames is."""

    content: Content
    signature: bytes
    epoch: int
    number: int = 0  # the tag, or the key

    @property
    def name(self) -> Name:
        return struct.pack("!H", self.epoch) + self.signature

    @property
    def growth(self) -> int:
        """Bytes of a message that are not the application's, at most."""
        return {"tag": 28, "xor": 0, "probe": 255, "whole": 12}[self.content]

    def restore(self, content: bytes, head: int) -> bytes:
        match self.content:
            case "tag":
                assert content[:head] in (b"", wire.tag(self.number, content[12:28].rstrip(b"\0")))
                return content[head:]
            case "probe":
                assert not head or head == content[1]
                return content[head:]
            case "xor":
                assert head == 0
                return scramble(content, self.number)
            case "whole":
                assert head == 0
                return content[2 : len(content) - content[1]]


def scramble(app: bytes, key: int) -> bytes:
    pattern = struct.pack("!I", key) * (len(app) // 4 + 1)
    size = len(app)
    mixed = int.from_bytes(app) ^ int.from_bytes(pattern[:size])
    return mixed.to_bytes(size)


@dataclass
class Decoder:
    """Follows one direction; `dialects` are those that may ever be on it, by name."""

    dialects: Mapping[Name, Dialect]
    current: Dialect | None = None
    size: int = 0  # bytes of wire so far
    messages: int = 0  # frames with bytes of the application so far
    marks: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # by kind: where the last is
    left: dict[Name, int] = field(default_factory=dict)  # where it was current for the last time
    changes: bytearray = field(default_factory=bytearray)  # marks, switches and ends: b"MSE"

    def take(self, chunk: bytes, tokens: Mapping[bytes, bytes]) -> bytes:
        """Return the application's bytes of what was sent with one call.

        `tokens`: for each kind of mark that may stand here, its token.
        """
        app = b""
        while chunk:
            if self.current is None:
                opened = self._open(chunk, tokens)
                piece, used = (b"", 20) if opened else (chunk, len(chunk))
            else:
                piece, used = self._frame(chunk, self.current)
            app += piece
            chunk = chunk[used:]
            self.size += used
            if self.current:
                self.left[self.current.name] = self.size
        return app

    def _open(self, chunk: bytes, tokens: Mapping[bytes, bytes]) -> bool:
        kind, name = chunk[5:6], chunk[14:20]
        if kind not in tokens or chunk[:14] != wire.mark(kind=kind, token=tokens[kind])[:14]:
            return False
        self.current = self.dialects[name]
        self.marks[kind] = (self.size, self.size + 20)
        self.changes += b"M"
        return True

    def _frame(self, chunk: bytes, current: Dialect) -> tuple[bytes, int]:
        kind, head, length = chunk[:1], chunk[1], int.from_bytes(chunk[2:4])
        content = chunk[4 : 4 + length]
        assert len(content) == length, "a call ends inside a frame"
        self.messages += kind in b"DP"
        match kind:
            case b"D":
                app = current.restore(content, head)
            case b"P":
                assert (head, length > 0) == (0, True)
                app = content
            case b"S":
                assert (head, length) == (0, 6)
                self.left[current.name] = self.size + 10
                self.current, app = self.dialects[content], b""
                self.changes += b"S"
                assert self.current != current
            case _:
                assert chunk[:4] == wire.END
                self.left[current.name] = self.size + 4
                self.current, app = None, b""
                self.changes += b"E"
        return app, 4 + length
