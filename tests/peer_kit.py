"""`l45-peer` for tests: its process, and a relay that tears its streams into other segments."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.peer_wire import KEY
from tests.vectors import MODULES, ROOT
from wire.manifest import load, pack_parameters

TOKEN = bytes(range(8))
LONGEST = 15.0
"""Seconds that a test waits for anything: far more than it takes."""


def build(folder: Path) -> Path:
    """Compile `l45-peer` with sanitizers, and the stream modules beside it; return the program."""
    program = folder / "l45-peer-sanitized"
    modules = [folder / f"{name}.so" for name in ("stream_tag", "stream_xor", "rate_limit")]
    others = [folder / "dns_app_tag.so", folder / "libl45.so"]
    make = ["make", "-s", "-C", str(ROOT / "kernel_tap" / "user"), f"OUT={folder}"]
    subprocess.run([*make, *map(str, [program, *modules, *others])], check=True)
    return program


def module(name: str, *settings: str, **parameters: int) -> list[str]:
    """Return the option for a customization; epoch and token are those of TOKEN and 1."""
    packed = pack_parameters(load(MODULES / name / "manifest.toml"), parameters).hex()
    return ["--module", ",".join([name, f"token={TOKEN.hex()}", f"parameters={packed}", *settings])]


def tag(*settings: str) -> list[str]:
    return module("stream_tag", *settings, tag=42)


def xor(*settings: str) -> list[str]:
    return module("stream_xor", *settings, key=int.from_bytes(KEY))


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until it is so; fail with what there is instead."""
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.005)


class Peer:
    """A running `l45-peer --verbose`. What it prints goes to files, so nothing makes it wait."""

    def __init__(
        self, folder: Path, command: list[str], stdin: bytes | None, stdout: int | None
    ) -> None:
        self._out, self._err = folder / "out", folder / "err"
        given = folder / "in"
        given.write_bytes(stdin or b"")
        with self._out.open("wb") as out, self._err.open("wb") as err, given.open("rb") as source:
            self.process = subprocess.Popen(
                [*command, "--verbose"],
                stdin=subprocess.PIPE if stdin is None else source,
                stdout=out if stdout is None else stdout,
                stderr=err,
                bufsize=0,
            )

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    @property
    def received(self) -> bytes:
        return self._out.read_bytes()

    def wait_some(self) -> None:
        until(lambda: bool(self.received), lambda: self.log)

    def wait_received(self, data: bytes) -> None:
        until(lambda: len(self.received) >= len(data), lambda: f"{self.received!r}\n{self.log}")
        assert self.received == data

    @property
    def log(self) -> str:
        return self._err.read_text()

    def wait_event(self, text: str, count: int = 1) -> None:
        until(lambda: self.log.count(text) >= count, lambda: f"no {text} in:\n{self.log}")

    @property
    def port(self) -> int:
        self.wait_event("event=listening")
        line = next(line for line in self.log.splitlines() if "event=listening" in line)
        return int(line.rpartition("=")[2])

    def status(self) -> int:
        """Return the exit status, once there is one."""
        try:
            return self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs:\n{self.log}") from None

    def is_idle(self) -> bool:
        """Whether it waits without working: a loop that spins would use all of this time."""
        before = self._ticks()
        time.sleep(0.3)
        return self._ticks() - before < 5

    def _ticks(self) -> int:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) + int(stat[12])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LONGEST)
        if self.process.stdin:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        assert "Sanitizer" not in self.log, self.log
        assert "runtime error" not in self.log, self.log


Tear = Callable[[bytes], Iterator[bytes]]


def whole(_seed: int) -> Tear:
    """Return what leaves bytes together."""
    return lambda data: iter([data])


def shreds(seed: int) -> Tear:
    """Return what tears bytes into segments, first into single ones, with pauses."""
    rng, done = random.Random(seed), 0  # noqa: S311 - repeatable, not secret

    def tear(data: bytes) -> Iterator[bytes]:
        nonlocal done
        while data:
            size = 1 if done < 1500 else rng.choice([1, 3, 4, 19, 20, 21, 500, 1500, 9000])
            if rng.random() < 0.01:
                time.sleep(0.001)
            yield data[:size]
            done += size
            data = data[size:]

    return tear


@dataclass
class Capture:
    """What passed on one connection."""

    forth: bytearray = field(default_factory=bytearray)
    back: bytearray = field(default_factory=bytearray)

    @property
    def ways(self) -> tuple[bytes, bytes]:
        return bytes(self.forth), bytes(self.back)


class Relay:
    """Passes connections on to a port of this host, and keeps what was on the wire."""

    def __init__(self, port: int, tear: Callable[[int], Tear]) -> None:
        self.captures: list[Capture] = []
        self._to, self._tear = port, tear
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                capture = Capture()
                self.captures.append(capture)
                self._start(self._pump, near, far, capture.forth, 1)
                self._start(self._pump, far, near, capture.back, 2)

    def _pump(self, source: socket.socket, to: socket.socket, seen: bytearray, seed: int) -> None:
        to.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tear = self._tear(seed)
        with suppress(OSError):
            while data := source.recv(65536):
                seen += data
                for piece in tear(data):
                    to.sendall(piece)
            to.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(LONGEST)
            assert not thread.is_alive()


def payload(size: int, seed: int = 1) -> bytes:
    """Return bytes that are always the same."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - repeatable, not secret


class Fifo:
    """Commands for a peer while it runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)

    @property
    def option(self) -> list[str]:
        return ["--control", str(self._path)]

    def tell(self, *lines: str) -> None:
        with self._path.open("w") as fifo:
            fifo.write("".join(f"{line}\n" for line in lines))


class World:
    """What one test has running; all of it ends with the test."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder, self._stack = program, folder, ExitStack()
        self._names = iter(range(1000))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def path(self) -> Path:
        return self._folder / str(next(self._names))

    def start(
        self, *arguments: str | int, stdin: bytes | None = None, stdout: int | None = None
    ) -> Peer:
        """Start a peer with these arguments; without `stdin` the test writes."""
        folder = self.path()
        folder.mkdir()
        peer = Peer(folder, [str(self._program), *map(str, arguments)], stdin, stdout)
        self._stack.callback(peer.close)
        return peer

    def relay(self, port: int, tear: Callable[[int], Tear] = shreds) -> Relay:
        relay = Relay(port, tear)
        self._stack.callback(relay.close)
        return relay

    def client(self, port: int) -> socket.socket:
        """Return a connection that speaks what the test makes it speak."""
        return self._stack.enter_context(socket.create_connection(("127.0.0.1", port), LONGEST))

    def server(self) -> socket.socket:
        """Return a socket that listens."""
        server = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(LONGEST)
        return server

    def accept(self, server: socket.socket) -> socket.socket:
        connection = self._stack.enter_context(server.accept()[0])
        connection.settimeout(LONGEST)
        return connection

    def script(self, *lines: str) -> list[str]:
        """Return the option for a file with these commands."""
        path = self.path()
        path.write_text("".join(f"{line}\n" for line in lines))
        return ["--control", str(path)]

    def fifo(self) -> Fifo:
        return Fifo(self.path())
