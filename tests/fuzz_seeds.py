"""First inputs for kernel_tap/fuzz: `python -m tests.fuzz_seeds FOLDER` writes FOLDER/TARGET/*.

Streams come from real endpoints, datagrams from the modules' vectors. What a target chooses it
reads from the end of its input, backwards (kernel_tap/fuzz/fuzz.h).
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import vectors
from tests.stream_target import RECEIVE, SEND, Customization, Endpoint, Module, Role
from tests.user_target import build

# As kernel_tap/fuzz/fuzz_receive.c has them.
NONCE = b"nonce 1."
ARMED, ENDED = 1, 2
FEED, FEED_LONG, TICK, ARM, GO, DISARM, SET, DRAIN = range(8)
KEY = (("key", 0x5A5A5A5A),)

Steps = list[tuple[int, int]]

# Ways to give the bytes to the receiver: kind of step and its detail.
SPLITS: list[Steps] = [
    [],
    [(FEED, 0)] * 60,
    [(FEED | 0x20, 6), (FEED | 0xF0, 18)] * 20,
    [(FEED, 10), (TICK, 70), (FEED, 2), (FEED_LONG, 1)],
    [(FEED_LONG | 0x30, 0), (DRAIN, 20), (TICK, 30)],
]


def with_choices(data: bytes, *choices: int) -> bytes:
    return data + bytes(reversed(choices))


def received(role: Role, flags: int, ready: int, steps: Steps, wire: bytes) -> bytes:
    """Return an input of the target `receive`."""
    flat = [byte for step in steps for byte in step]
    return with_choices(wire, role, flags, ready, ready, len(steps), *flat)


class Streams:
    """What two endpoints that were told this and that say to each other."""

    def __init__(self, built: Path) -> None:
        self.built = built
        tag, xor = (
            Module.of(built, vectors.MODULES, name) for name in ("stream_tag", "stream_xor")
        )
        # In the places that fuzz_receive.c gives them.
        self.at = {
            0: Customization(tag),
            1: Customization(xor, parameters=KEY),
            5: Customization(tag, epoch=2, parameters=(("interval", 7),)),
            6: Customization(xor, epoch=2, parameters=KEY),
        }

    def sender(self, role: Role, first: int) -> Endpoint:
        """Return an endpoint that has them all, and sends by that one."""
        endpoint = Endpoint(self.built, role)
        for place, what in self.at.items():
            endpoint.attach(what, place, RECEIVE | (SEND if place == first else 0))
        return endpoint

    def one(self, first: int, writes: list[int]) -> bytes:
        """A new stream of one customization, with an end."""
        endpoint = self.sender(Role.CONNECT, first)
        wire = b"".join(endpoint.write(bytes(i % 251 for i in range(size))) for size in writes)
        endpoint.set(self.at[first], first, RECEIVE)
        wire += endpoint.control() + endpoint.write(b"plain")
        endpoint.close()
        return wire

    def rotated(self, role: Role, *, live: bool) -> bytes:
        """From one customization to the next, a write in between."""
        endpoint = self.sender(role, 0)
        wire = b""
        if live:
            endpoint.arm(NONCE, 0, 10**9)
            wire += endpoint.write(b"plain before")
            endpoint.go(0)
        for place, after in ((0, 1), (1, 5), (5, 6), (6, 0)):
            wire += endpoint.control() + endpoint.write(b"by customization %d" % place)
            endpoint.set(self.at[after], 0, RECEIVE | SEND)
            endpoint.set(self.at[place], place, RECEIVE)
        wire += endpoint.control()
        endpoint.close()
        return wire

    def again(self) -> bytes:
        """A new stream that ends, and later a live one."""
        return self.one(0, [5]) + self.rotated(Role.JOIN, live=True)

    def longest(self, more: int) -> bytes:
        """Begin a frame with the most that a receiver holds, and more."""
        endpoint = self.sender(Role.CONNECT, 1)
        wire = endpoint.write(b"first") + b"D\0" + (17920 + more).to_bytes(2)
        endpoint.close()
        return wire

    def inputs(self) -> Iterator[bytes]:
        ready = sum(1 << place for place in self.at)
        for more in (0, 1):
            yield received(Role.ACCEPT, 0, ready, [], self.longest(more))
        for steps in SPLITS:
            for first in self.at:
                for writes in ([1], [5, 300], [3000]):
                    yield received(Role.ACCEPT, ENDED, ready, steps, self.one(first, writes))
            for flags in (0, ENDED):
                new = self.rotated(Role.CONNECT, live=False)
                live = self.rotated(Role.JOIN, live=True)
                yield received(Role.ACCEPT, flags, ready, steps, new)
                yield received(Role.ACCEPT, flags | ARMED, ready, steps, self.again())
                yield received(Role.JOIN, flags | ARMED, ready, steps, live)
                yield received(Role.CONNECT, flags | ARMED, ready, [(GO, 0), *steps], live)


def of_datagrams(module: str) -> Iterator[bytes]:
    """Yield inputs of a datagram module's target."""
    for vector in vectors.load(module):
        name = vector.process.encode()
        if vector.send:
            yield with_choices(vector.application or b"", 0, len(name), *name)
        if vector.recv:
            yield with_choices(vector.wire or b"", 1, len(name), *name)


def put(folder: Path, inputs: Iterator[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def main(folder: Path) -> None:
    for path in vectors.MODULES.glob("*/vectors.toml"):
        if "L45_MODULE(" in path.with_name("module.c").read_text(encoding="utf-8"):
            put(folder / path.parent.name, of_datagrams(path.parent.name))
    with tempfile.TemporaryDirectory() as name:
        built = build(Path(name), vectors.MODULES)
        put(folder / "receive", Streams(built).inputs())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
