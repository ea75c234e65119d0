"""Whose a socket is: users, programs, and sockets that are handed from one program to another."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_agent import bpf_tap
from mininet_topos.namespaces import inside
from tests.system.bpf.kit import PORT, QUERY, ROOT, SERVER, TIMEOUT, Wire, named, one_wire

pytestmark = [pytest.mark.system, one_wire]


HEIR = """
import ctypes, os, socket, sys
ctypes.CDLL(None).prctl(15, b"heir")
door = socket.socket(fileno=int(sys.argv[1]))
if sys.argv[2] == "-":
    given = socket.socket(fileno=socket.recv_fds(door, 1, 1)[1][0])
else:
    given = socket.socket(fileno=int(sys.argv[2]))
given.settimeout(5)
door.send(b"ready")
while command := door.recv(4096):
    if command == b"receive":
        door.send(given.recv(2048))
    elif command[:4] == b"peer":
        given.sendto(command[4:], (sys.argv[3], int(sys.argv[4])))
        door.send(b"sent")
    else:
        given.send(command)
        door.send(b"sent")
"""
"""A program called heir that uses the socket it was given: by number, or through the door."""


@dataclass(frozen=True)
class Heir:
    """The program, and the door to talk to it."""

    process: subprocess.Popen[bytes]
    door: socket.socket

    def ask(self, command: bytes) -> bytes:
        self.door.send(command)
        return self.door.recv(4096)


@contextmanager
def heir(wire: Wire, given: socket.socket | None) -> Iterator[Heir]:
    """Run it on the client with a socket, by fork and exec; None: it takes one from the door."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    numbers = [theirs.fileno(), *([given.fileno()] if given else [])]
    arguments = [str(numbers[0]), str(numbers[1]) if given else "-", SERVER, str(PORT)]
    with ours, inside(wire.client.namespace):
        ours.settimeout(TIMEOUT)
        process = subprocess.Popen([sys.executable, "-c", HEIR, *arguments], pass_fds=numbers)
        theirs.close()
        try:
            if given:
                assert ours.recv(16) == b"ready"
            yield Heir(process, ours)
        finally:
            ours.close()
            process.wait(TIMEOUT)


def tag_heir(wire: Wire, **switches: bool) -> None:
    wire.client.apply(wire.client.customization("dns_app_tag", process="heir", **switches))


def connected(wire: Wire) -> socket.socket:
    sender = wire.client.udp("maker")
    with named("maker"):
        sender.connect((SERVER, PORT))
    return sender


TAG_HEIR = b"XTAG" + b"heir".ljust(16, b"\0")


def test_connected_socket_goes_to_who_inherited_it(wire: Wire) -> None:
    given = connected(wire)
    with heir(wire, given) as program:
        given.close()
        tag_heir(wire, send=True)
        assert program.ask(QUERY) == b"sent"
        assert wire.wiretap.next().payload == TAG_HEIR + QUERY
        assert [flow.process for flow in wire.client.flows()] == ["heir"]


def test_socket_sent_through_another_goes_to_who_took_it(wire: Wire) -> None:
    given = connected(wire)
    with heir(wire, None) as program:
        socket.send_fds(program.door, [b"x"], [given.fileno()])
        assert program.door.recv(16) == b"ready"
        given.close()
        tag_heir(wire, send=True)
        program.ask(QUERY)
        assert wire.wiretap.next().payload == TAG_HEIR + QUERY


def test_activated_service_owns_the_socket_that_its_maker_keeps(wire: Wire) -> None:
    """The maker has it as well, as service managers do; it never used it."""
    given = wire.client.udp("maker", 4000)
    plain = wire.server.udp("plain")
    with heir(wire, given) as program:
        tag_heir(wire, receive=True)
        plain.sendto(TAG_HEIR + QUERY, ("10.99.0.1", 4000))
        assert program.ask(b"receive") == QUERY


def test_who_uses_the_socket_keeps_it_though_a_child_has_it_too(wire: Wire) -> None:
    given = wire.client.udp("maker")
    wire.carry(given, "maker", QUERY)
    with heir(wire, given):
        wire.client.apply(
            wire.client.customization("dns_app_tag", number=1, send=True, process="maker"),
            wire.client.customization("odd_mark", number=2, send=True, process="heir"),
        )
        with named("maker"):
            assert [flow.process for flow in wire.client.flows()] == ["maker"]
        assert wire.carry(given, "maker", QUERY).payload[:9] == b"XTAGmaker"


def test_who_sends_first_after_the_set_owns_it_from_then_on(wire: Wire) -> None:
    given = wire.client.udp("maker")
    wire.carry(given, "maker", QUERY)
    with heir(wire, given) as program:
        tag_heir(wire, send=True)
        assert program.ask(b"peer" + QUERY) == b"sent"
        assert wire.wiretap.next().payload == TAG_HEIR + QUERY


def test_socket_handed_on_after_the_set_is_found_when_the_agent_looks(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpf_tap, "OWNERS_SECONDS", 0.0)
    given = connected(wire)
    tag_heir(wire, send=True)
    with heir(wire, given) as program:
        given.close()
        wire.client.counters()
        program.ask(QUERY)
        assert wire.wiretap.next().payload == TAG_HEIR + QUERY


PROBER = ROOT / "tests/vm/programs/match_prober.c"


@pytest.fixture(scope="module")
def prober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("prober") / "match-prober"
    flags = ["-std=gnu11", "-O2", "-D_GNU_SOURCE", "-pthread"]
    subprocess.run(["gcc", *flags, str(PROBER), "-o", str(program)], check=True)
    return program


@contextmanager
def probe(wire: Wire, prober: Path, path: Path) -> Iterator[None]:
    """A process runs `path` and has a socket that is open."""
    line = f"{path} p t 0 10.99.0.1 4000 {SERVER} {PORT}\n".encode()
    with (
        inside(wire.client.namespace),
        subprocess.Popen([prober], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running,
    ):
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(line)
        running.stdin.flush()
        assert int(running.stdout.readline())
        try:
            yield
        finally:
            running.stdin.close()
            running.wait(TIMEOUT)


def renamed(path: Path) -> Path:
    path.rename(path.with_name("renamed"))
    return path.with_name("renamed")


def replaced(path: Path) -> Path:
    """As updates of packages do: the same name, and another file."""
    fresh = path.with_name("fresh")
    shutil.copy(path, fresh)
    fresh.rename(path)
    return path


def removed(path: Path) -> Path:
    path.unlink()
    return path


def untouched(path: Path) -> Path:
    return path


@pytest.mark.parametrize("change", [untouched, renamed, replaced, removed])
def test_executable_is_known_by_its_path(
    wire: Wire, prober: Path, tmp_path: Path, change: Callable[[Path], Path]
) -> None:
    """Also on open sockets; what was replaced or removed since it was started keeps its name."""
    path = tmp_path / "program"
    shutil.copy(prober, path)
    with probe(wire, prober, path):
        found = change(path)
        # The namespace's first set: its sockets are looked at again.
        wire.client.apply(wire.client.customization("dns_app_tag", send=True, executable=str(path)))
        (flow,) = wire.client.flows()
        assert flow.executable == str(path)
    if change is not renamed:
        return
    with probe(wire, prober, found):
        assert wire.client.flows() == []


def test_executable_over_mounts(wire: Wire, prober: Path, tmp_path: Path) -> None:
    """The path goes through a file system that is mounted, and one that is bound elsewhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "l45", str(here)], check=True)
    try:
        (here / "deep" / "er").mkdir(parents=True)
        shutil.copy(prober, here / "deep" / "er" / "program")
        subprocess.run(["mount", "--bind", str(here / "deep"), str(there)], check=True)
        try:
            path = there / "er" / "program"
            with probe(wire, prober, path):
                wire.client.apply(
                    wire.client.customization("dns_app_tag", send=True, executable=str(path))
                )
                assert [flow.executable for flow in wire.client.flows()] == [str(path)]
        finally:
            subprocess.run(["umount", str(there)], check=True)
    finally:
        subprocess.run(["umount", str(here)], check=True)


def test_user_is_the_effective_one(wire: Wire) -> None:
    wire.client.apply(wire.client.customization("dns_app_tag", send=True, uid=65534))
    sender = wire.client.udp("dig")
    os.seteuid(65534)
    try:
        assert wire.carry(sender, "dig", QUERY).payload[:7] == b"XTAGdig"
    finally:
        os.seteuid(0)
    assert wire.carry(sender, "dig", QUERY).payload == QUERY
