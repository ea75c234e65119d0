"""The calls of the module SDK in user space, made by a module that does what a message says."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.user_target import MESSAGE_MAX, VERDICTS, Line, Module, build, run
from tests.vectors import ROOT

COMMAND = struct.Struct("!cBII")
SIZE = 40  # bytes of the messages below, command included
ROOM = 1536  # message.h: a module can grow a message by so much
EDGES = [0, 1, 9, 39, 40, 41, 63, 64, 65, 2**31 - 1, 2**31, 2**32 - 41, 2**32 - 40, 2**32 - 1]

edges = st.one_of(st.sampled_from(EDGES), st.integers(0, 80), st.integers(0, 2**32 - 1))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build(tmp_path_factory.mktemp("probe"), ROOT / "tests" / "data" / "modules")
    return folder / "sdk_probe-run"


@pytest.fixture(scope="module")
def probe(runner: Path) -> Module:
    return Module(runner.with_name("sdk_probe.so"))


def command(call: str, offset: int = 0, size: int = 0, times: int = 1, of: int = SIZE) -> bytes:
    body = bytes(i % 251 for i in range(of - COMMAND.size))
    return COMMAND.pack(call.encode(), times, offset, size) + body


def expected(call: str, message: bytes, offset: int, size: int) -> tuple[str, bytes]:
    """Return what the SDK promises (l45/module.h), in terms of Python's slices."""
    whole = size > 0 and offset + size <= len(message)
    piece = whole and size <= 64
    before, behind = message[:offset], message[offset + size :]
    match call:
        case "l" if piece:
            return "done", message[offset : offset + size] + message[size:]
        case "s" if piece:
            return "done", before + b"\xa5" * size + behind
        case "r" if whole:
            return "done", before + behind
        case "i" if size and offset <= len(message):
            fits = size <= ROOM
            return ("done", before + bytes(size) + message[offset:]) if fits else ("pass", message)
        case _:
            return "next", message


@pytest.mark.parametrize("call", list("lsir"))
def test_all_bounds_under_sanitizers(runner: Path, call: str) -> None:
    pairs = [(offset, size) for offset in EDGES for size in EDGES]
    lines = [Line("send", command(call, offset, size)) for offset, size in pairs]
    answers = run(runner, lines)
    for line, (offset, size), answer in zip(lines, pairs, answers, strict=True):
        assert answer == expected(call, line.message, offset, size), (offset, size)
    assert {verdict for verdict, _ in answers} >= {"done", "next"}


@settings(max_examples=20, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from("lsir"), edges, edges, st.integers(10, 3000)), max_size=40
    )
)
def test_any_bounds_under_sanitizers(runner: Path, calls: list[tuple[str, int, int, int]]) -> None:
    lines = [Line("send", command(call, at, size, of=of)) for call, at, size, of in calls]
    wanted = [
        expected(call, line.message, at, size)
        for (call, at, size, _), line in zip(calls, lines, strict=True)
    ]
    assert run(runner, lines) == wanted


@pytest.mark.parametrize("offset", [0, 3, SIZE - 1, SIZE])
@pytest.mark.parametrize("size", [1, 7, 32, 500])
def test_insertions_use_the_room_at_both_ends(runner: Path, offset: int, size: int) -> None:
    message = command("i", offset, size, times=255)
    ((verdict, result),) = run(runner, [Line("send", message)])
    growth = len(result) - len(message)
    assert verdict == "done"
    assert growth == size * min(255, 2 * (ROOM // size))
    assert result == message[:offset] + bytes(growth) + message[offset:]


@pytest.mark.parametrize("size", [1, 3, 13])
def test_removals_stop_at_the_end(runner: Path, size: int) -> None:
    message = command("r", 0, size, times=255)
    answer = ("done", message[len(message) - len(message) % size :])
    assert run(runner, [Line("send", message)]) == [answer]


@settings(deadline=None)
@given(data=st.binary(max_size=64), offset=edges)
def test_parameters_are_little_endian_and_zero_where_not_given(
    probe: Module, data: bytes, offset: int
) -> None:
    _, result = probe.run("send", command("p", offset), parameters=data)
    values = [
        int.from_bytes(data[offset : offset + size], "little") if offset + size <= len(data) else 0
        for size in (1, 2, 4, 8)
    ]
    assert struct.unpack_from("!BHIQ", result) == tuple(values)


@pytest.mark.parametrize("process", ["a", "exactly-15-char", "sixteen-or-more-characters"])
def test_process_name_is_cut_as_the_kernel_does(runner: Path, process: str) -> None:
    ((verdict, result),) = run(runner, [Line("send", command("n"), process)])
    assert verdict == "done"
    assert result[:16] == process.encode()[:15].ljust(16, b"\0")


@pytest.mark.parametrize("process", [None, b""])
def test_unknown_process(probe: Module, process: bytes | None) -> None:
    assert probe.run("send", command("n"), process) == ("leave", command("n"))


@pytest.mark.parametrize(
    ("order", "verdict"),
    [*enumerate(VERDICTS), (6, "error"), (255, "error")],
)
def test_verdicts(runner: Path, order: int, verdict: str) -> None:
    kept, changed = bytes([order, 0, 7]), bytes([order, 1, 7])
    assert run(runner, [Line("recv", kept), Line("recv", changed)]) == [
        (verdict, b"" if verdict == "drop" else kept),
        ("done", b"\0" + changed) if verdict == "done" else ("drop", b""),
    ]


def test_no_verdict_without_room_or_within_the_limit(probe: Module) -> None:
    with pytest.raises(OSError, match="l45_user_run") as refused:
        probe.run("recv", b"\1\0" + bytes(8), room=9)
    assert refused.value.errno == errno.ENOBUFS
    for message, limit in ((bytes(MESSAGE_MAX + 1), 0), (bytes(50), 49)):
        with pytest.raises(OSError, match="l45_user_run") as refused:
            probe.run("recv", message, limit=limit)
        assert refused.value.errno == errno.EMSGSIZE
