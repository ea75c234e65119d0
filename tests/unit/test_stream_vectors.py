"""The golden streams of each module for TCP, on the core in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import vectors
from tests.stream_target import RECEIVE, SEND, Customization, Endpoint, Module, Role, StreamError
from tests.vectors import Stream
from wire.manifest import load

STREAMS = [
    (module, stream)
    for module in vectors.modules("stream")
    for stream in vectors.load_streams(module)
]


def each(streams: list[tuple[str, Stream]]) -> pytest.MarkDecorator:
    names = [f"{module}: {stream.name}" for module, stream in streams]
    return pytest.mark.parametrize(("module", "stream"), streams, ids=names)


def endpoint(built: Path, role: Role, module: str, stream: Stream) -> Endpoint:
    end = Endpoint(built, role, stream.process)
    what = Customization(
        Module.of(built, vectors.MODULES, module), parameters=tuple(stream.parameters.items())
    )
    end.attach(what, 0, SEND | RECEIVE)
    return end


def pieces(wire: bytes, size: int) -> Iterator[bytes]:
    return (wire[at : at + size] for at in range(0, len(wire), size))


def receive(end: Endpoint, wire: bytes, size: int) -> tuple[bytes, str | None]:
    """Return what the application reads when `wire` comes in pieces, and the fault at its end."""
    read = b""
    try:
        for piece in pieces(wire, size):
            end.fill(piece)
            read += end.read() or b""
        end.end()
        while (more := end.read()) is not None:
            read += more
    except StreamError:
        return read, end.faults[1].name.lower()
    return read, None


@each(STREAMS)
@pytest.mark.parametrize("size", [65536, 7, 1])
def test_received(built: Path, module: str, stream: Stream, size: int) -> None:
    with closing(endpoint(built, Role.ACCEPT, module, stream)) as end:
        assert receive(end, stream.wire, size) == (stream.received, stream.fault)


@each([(m, s) for m, s in STREAMS if s.kind == "valid"])
def test_sent(built: Path, module: str, stream: Stream) -> None:
    with closing(endpoint(built, Role.CONNECT, module, stream)) as end:
        assert b"".join(end.write(write) for write in stream.writes) == stream.wire


@each([(m, s) for m, s in STREAMS if s.delays])
def test_delays(built: Path, module: str, stream: Stream) -> None:
    with closing(endpoint(built, Role.CONNECT, module, stream)) as end:
        assert [end.send(write).delay_ms for write in stream.writes] == stream.delays


@pytest.mark.parametrize("module", vectors.modules("stream"))
def test_every_kind_is_there(module: str) -> None:
    kinds = {stream.kind for stream in vectors.load_streams(module)}
    framed = load(vectors.MODULES / module / "manifest.toml").wire is not None
    assert kinds >= ({"valid", "truncated", "foreign", "hostile"} if framed else {"valid"})
