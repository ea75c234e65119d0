"""Modules on the target `user`: golden vectors under sanitizers, and properties."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import vectors
from tests.user_target import MESSAGE_MAX, Line, Module, run
from wire.manifest import load

MODULES = vectors.modules("vector")
TAG_SIZE = 20

messages = st.one_of(
    st.binary(max_size=600),
    st.builds(lambda rest: b"XTAG" + rest, st.binary(max_size=100)),
    st.builds(lambda a, b, rest: a + b"\x01" + b + rest, *[st.binary(max_size=40)] * 3),
)
names = st.one_of(st.none(), st.binary(max_size=40).filter(lambda name: b"\0" not in name))


@pytest.fixture(scope="module")
def dns_app_tag(built: Path) -> Module:
    return Module(built / "dns_app_tag.so")


@pytest.mark.parametrize("module", MODULES)
def test_vectors_sent(built: Path, module: str) -> None:
    wanted = vectors.to_send(module)
    lines = [Line("send", v.application or b"", v.process) for v in wanted]
    assert run(built / f"{module}-run", lines) == [(v.send, v.sent) for v in wanted]


@pytest.mark.parametrize("module", MODULES)
def test_vectors_received(built: Path, module: str) -> None:
    wanted = vectors.to_receive(module)
    lines = [Line("recv", v.wire or b"") for v in wanted]
    assert run(built / f"{module}-run", lines) == [(v.recv, v.received) for v in wanted]


@pytest.mark.parametrize("module", MODULES)
def test_shared_library_answers_as_the_sanitised_runner(built: Path, module: str) -> None:
    library = Module(built / f"{module}.so")
    for vector in vectors.to_receive(module):
        assert library.run("recv", vector.wire or b"") == (vector.recv, vector.received)
    for vector in vectors.to_send(module):
        answer = library.run("send", vector.application or b"", vector.process.encode())
        assert answer == (vector.send, vector.sent)


@pytest.mark.parametrize("module", MODULES)
def test_every_truncation_of_every_vector_under_sanitizers(built: Path, module: str) -> None:
    wires = [v.wire for v in vectors.to_receive(module) if v.wire]
    lines = [Line("recv", wire[:n]) for wire in wires for n in range(len(wire))]
    manifest = load(vectors.MODULES / module / "manifest.toml")
    answers = run(built / f"{module}-run", lines)
    restored = []
    for line, (verdict, result) in zip(lines, answers, strict=True):
        if verdict == "done" and manifest.lossy:
            restored.append((line.message, result))
        else:
            assert result == line.message[manifest.growth if verdict == "done" else 0 :]
    # Whatever a lossy module restores says what the wire form said.
    again = run(built / f"{module}-run", [Line("send", result) for _, result in restored])
    assert again == [("done", wire) for wire, _ in restored]


@settings(deadline=None)
@given(message=messages, process=names)
def test_what_was_sent_is_received(
    dns_app_tag: Module, message: bytes, process: bytes | None
) -> None:
    verdict, wire = dns_app_tag.run("send", message, process)
    if verdict == "done":
        assert process is not None
        assert wire == b"XTAG" + process[:15].ljust(16, b"\0") + message
        assert dns_app_tag.run("recv", wire) == ("done", message)
    else:
        assert wire == message
        assert verdict == ("error" if is_query(message) else "next")
        assert not is_query(message) or not process


def is_query(message: bytes) -> bool:
    return len(message) >= 12 and not message[2] & 0x80


@settings(deadline=None)
@given(message=messages)
def test_what_is_not_ours_is_received_unchanged(dns_app_tag: Module, message: bytes) -> None:
    tagged = message.startswith(b"XTAG") and len(message) >= TAG_SIZE
    expected = ("done", message[TAG_SIZE:]) if tagged else ("next", message)
    assert dns_app_tag.run("recv", message, None) == expected


@pytest.mark.parametrize("size", [MESSAGE_MAX - TAG_SIZE, MESSAGE_MAX - TAG_SIZE + 1, MESSAGE_MAX])
def test_longest_message(dns_app_tag: Module, size: int) -> None:
    fits = size + TAG_SIZE <= MESSAGE_MAX
    verdict, wire = dns_app_tag.run("send", bytes(size))
    assert (verdict, len(wire)) == (("done", MESSAGE_MAX) if fits else ("error", size))


def test_message_that_would_not_fit_the_path_passes_unchanged(dns_app_tag: Module) -> None:
    query = bytes(40)
    assert dns_app_tag.run("send", query, limit=60)[0] == "done"
    assert dns_app_tag.run("send", query, limit=59) == ("error", query)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("send dig", "want three words"),
        ("", "want three words"),
        ("send dig 00 00", "want three words"),
        ("sent dig 00", "neither send nor recv"),
        ("send dig 0", "not hexadecimal"),
        ("send dig 0g", "not hexadecimal"),
        ("send dig \x10\x10", "not hexadecimal"),
        ("recv dig " + "00" * (MESSAGE_MAX + 1), "longer than a datagram"),
        ("recv dig " + "00" * (10 * MESSAGE_MAX), "longer than a datagram"),
    ],
)
def test_runner_says_which_line_is_wrong(built: Path, line: str, fault: str) -> None:
    result = subprocess.run(
        [str(built / "dns_app_tag-run")],
        input=f"recv - -\n{line}\nrecv - -\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == "next -\n"
    assert result.stderr.startswith("line 2: ")
    assert fault in result.stderr
