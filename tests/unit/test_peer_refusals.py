"""What l45-peer does not do, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from mininet_topos.ports import free_port
from tests.peer_kit import World, tag


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "want connect, listen or forward, a host and a port"),
        ("talk ::1 1", "talk: want connect, listen or forward"),
        ("listen --loud ::1 1", "unrecognized option"),
        ("listen -m ./none.so ::1 0", "none.so: cannot open shared object file"),
        ("listen -m none ::1 0", "none.so: cannot open shared object file"),
        ("listen -m dns_app_tag ::1 0", "for datagrams, not for streams"),
        ("listen -m stream_tag,token=12 ::1 0", "token=12: want"),
        ("listen -m stream_tag,token=001122334455667z ::1 0", "token=001122334455667z: want"),
        ("listen -m stream_tag,parameters=0 ::1 0", "parameters=0: want"),
        (f"listen -m stream_tag,parameters={'00' * 65} ::1 0", "at most 64 bytes"),
        ("listen -m stream_tag,epoch=65536 ::1 0", "epoch=65536: want"),
        ("listen -m stream_tag,priority=-1 ::1 0", "priority=-1: want"),
        ("listen -m stream_tag,sned ::1 0", "sned: want"),
        ("listen -m stream_tag -m stream_tag ::1 0", "give it an epoch="),
        (
            "listen " + " ".join(f"-m stream_tag,epoch={n}" for n in range(17)) + " ::1 0",
            "at most 16",
        ),
        (f"listen --process {'a' * 16} ::1 0", "at most 15 characters"),
        ("listen --control /dev/null ::1 0", "wants a file or a FIFO"),
        ("listen --control ./none ::1 0", "./none: No such file"),
        ("listen --limit 3 ::1 0", "are for forward"),
        ("forward ::1 0", "forward wants --to HOST:PORT"),
        ("forward --to nowhere ::1 0", "want HOST:PORT"),
        ("forward --to ::1:1 --limit 0 ::1 0", "want a number from 1"),
        ("forward --to ::1:1 --customize both ::1 0", "want near or far"),
        ("listen ::1 nonsense", "::1 port nonsense: "),
        ("listen ::1 65536", "port 65536: want a number from 0 to 65535"),
        ("connect ::1 99999999999999999999", "want a number from 0 to 65535"),
    ],
)
def test_bad_input_is_refused(world: World, arguments: str, message: str) -> None:
    peer = world.start(*arguments.split(), stdin=b"")
    assert peer.status() == 1
    assert message in peer.log


def test_a_library_that_is_no_module_is_refused(world: World, program: Path) -> None:
    peer = world.start("listen", "-m", str(program.with_name("libl45.so")), "::1", 0, stdin=b"")
    assert peer.status() == 1
    assert "has no l45_module" in peer.log


@pytest.mark.parametrize(
    "line",
    [
        "set 2 both",
        "set 0 both",
        "set 1",
        "set 1 all",
        "set 1 both -5",
        "set 1 both 5 6",
        "arm 11 5",
        "arm 1122334455667788",
        "arm 1122334455667788 99999999",
        "drain soon",
        "drain",
        "at set 1 both",
        "at 5",
        "go on",
        "x" * 400,
    ],
)
def test_bad_commands_are_refused(world: World, line: str) -> None:
    control = world.script("go # this one is good", "", line)
    peer = world.start("listen", *tag(), *control, "::1", 0, stdin=b"")
    assert peer.status() == 1
    assert "line 3: " in peer.log


def test_a_forwarder_takes_no_fifo(world: World) -> None:
    fifo = world.fifo()
    peer = world.start("forward", "--to", "::1:1", *tag(), *fifo.option, "::1", 0, stdin=b"")
    assert peer.status() == 1
    assert "each connection reads it from its begin" in peer.log


def test_help_teaches_by_examples(world: World) -> None:
    peer = world.start("--help", stdin=b"")
    assert peer.status() == 0
    assert b"l45-peer listen -v -m stream_tag" in peer.received


def test_nobody_listens(world: World) -> None:
    port = free_port()
    peer = world.start("connect", *tag(), "127.0.0.1", port, stdin=b"")
    assert peer.status() == 1
    assert f"cannot connect to 127.0.0.1 port {port}: Connection refused" in peer.log


def test_a_port_that_is_taken(world: World) -> None:
    port = world.server().getsockname()[1]
    peer = world.start("listen", *tag(), "127.0.0.1", port, stdin=b"")
    assert peer.status() == 1
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in peer.log
