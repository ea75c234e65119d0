"""l45-peer connect and listen over loopback, with sanitizers. How it refuses and how it forwards
is in files beside this one."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.peer_kit import TOKEN, Peer, World, module, payload, tag, until, whole, xor
from tests.peer_wire import Item, kinds, read_wire, restore, switched_at
from tests.stream_frames import END, data, frame, mark, switch, tagged
from tests.stream_frames import tag as tag_head


def exchange(
    world: World, options: list[str], sent: tuple[bytes, bytes]
) -> tuple[Peer, list[bytes]]:
    """Client and server send these at once, and read them.

    Return the server, which has ended, and what was on the wire each way.
    """
    server = world.start("listen", *options, "127.0.0.1", 0)
    relay = world.relay(server.port)
    client = world.start("connect", *options, "127.0.0.1", relay.port, stdin=sent[0])
    server.wait_event("event=mark-received")
    server.write(sent[1])
    server.end()
    assert (client.status(), server.status()) == (0, 0)
    assert (server.received, client.received) == sent
    return server, [bytes(way) for way in relay.captures[0].ways]


# -- new streams


@pytest.mark.parametrize(("options", "signature"), [(tag(), b"STAG"), (xor(), b"SXOR")])
def test_transfer_both_ways_through_torn_segments(
    world: World, options: list[str], signature: bytes
) -> None:
    sent = payload(200_000), payload(150_000, 2)
    _, wires = exchange(world, options, sent)
    for wire, application in zip(wires, sent, strict=True):
        items = read_wire(wire)
        assert items[0] == Item("M", mark(signature))
        assert kinds(items) == "MD"
        assert restore(items) == application


def test_a_tag_stands_before_every_interval(world: World) -> None:
    server = world.start("listen", *tag(), "127.0.0.1", 0, stdin=b"")
    relay = world.relay(server.port, whole)
    sent = payload(100_500)
    client = world.start(
        "connect", *tag(), "--process", "curl", "127.0.0.1", relay.port, stdin=sent
    )
    assert (client.status(), server.status()) == (0, 0)
    place, places = 0, []
    for item in read_wire(relay.captures[0].ways[0])[1:]:
        if item.head:
            assert item.head == tag_head(42, b"curl")
            places.append(place)
        place += len(item.content)
    assert places == list(range(0, len(sent), 1000))


def test_a_plain_client_of_a_customized_server(world: World) -> None:
    server = world.start("listen", *tag(), "127.0.0.1", 0)
    plain = world.client(server.port)
    plain.sendall(b"hello")
    server.wait_received(b"hello")
    server.write(b"good day")
    assert plain.recv(100) == b"good day"
    server.end()
    assert plain.recv(100) == b""
    plain.close()
    assert server.status() == 0
    assert "mark" not in server.log


def test_a_server_that_speaks_first_stays_plain(world: World) -> None:
    server = world.start("listen", *tag(), "127.0.0.1", 0)
    relay = world.relay(server.port)
    client = world.start("connect", *tag(), "127.0.0.1", relay.port)
    server.write(b"220 ready\r\n")
    client.wait_received(b"220 ready\r\n")
    client.write(b"HELO\r\n")
    server.wait_received(b"HELO\r\n")
    server.write(b"250 hello\r\n")
    client.wait_received(b"220 ready\r\n250 hello\r\n")
    client.end()
    server.end()
    assert (client.status(), server.status()) == (0, 0)
    forth, back = relay.captures[0].ways
    assert back == b"220 ready\r\n250 hello\r\n"
    assert kinds(read_wire(forth)) == "MD"


def test_ipv6(world: World) -> None:
    server = world.start("listen", *tag(), "::1", 0, stdin=b"")
    client = world.start("connect", *tag(), "::1", server.port, stdin=b"hello")
    assert (client.status(), server.status()) == (0, 0)
    assert server.received == b"hello"


# -- switches and ends


def test_rotation_while_bytes_flow_both_ways(world: World) -> None:
    """Back and forth between two modules, hundreds of times, at the very bytes that were named."""
    places = [700 * turn for turn in range(1, 301)]
    turns = [f"at {at} set 2 both {(5, 20)[n % 2]}" for n, at in enumerate(places)]
    options = [*tag(), *xor(), *world.script(*turns)]
    sent = payload(250_000), payload(220_000, 2)
    server, wires = exchange(world, options, sent)
    for wire, application in zip(wires, sent, strict=True):
        items = read_wire(wire)
        assert restore(items) == application
        assert switched_at(items) == places
    assert server.log.count("event=switch-received") == len(places)


def test_end_to_plain(world: World) -> None:
    sent = payload(20_000)
    server = world.start("listen", *xor(), *world.script("drain 10000"), "127.0.0.1", 0, stdin=b"")
    relay = world.relay(server.port)
    ending = world.script("# no more from here on", "at 5000 set 1 receive")
    client = world.start("connect", *xor(), *ending, "127.0.0.1", relay.port, stdin=sent)
    assert (client.status(), server.status()) == (0, 0)
    assert server.received == sent
    wire = relay.captures[0].ways[0]
    assert wire.endswith(END + sent[5000:])
    assert restore(read_wire(wire[: -len(sent[5000:])])) == sent[:5000]


# -- live streams


@pytest.mark.parametrize("told", ["one", "both"])
def test_live_streams_open_without_data(world: World, told: str) -> None:
    """An end that is not told to go does when it reads the mark."""
    near, far = world.fifo(), world.fifo()
    server = world.start("listen", *tag("receive"), *far.option, "127.0.0.1", 0)
    relay = world.relay(server.port)
    client = world.start("connect", *tag("receive"), *near.option, "127.0.0.1", relay.port)
    client.write(b"before ")
    server.wait_received(b"before ")
    server.write(b"yes ")
    client.wait_received(b"yes ")
    for fifo, end in ((near, client), (far, server)):
        fifo.tell("set 1 both", "arm 1122334455667788 10000")
        end.wait_event("event=armed")
    for fifo in (near, far) if told == "both" else (far,):
        fifo.tell("go")
    for end in (server, client):
        end.wait_event("event=mark-received")
    client.write(b"after")
    server.wait_received(b"before after")
    server.write(b"no")
    client.wait_received(b"yes no")
    client.end()
    server.end()
    assert (client.status(), server.status()) == (0, 0)
    live = Item("M", mark(kind=b"L", token=bytes.fromhex("1122334455667788")))
    for wire, before in zip(relay.captures[0].ways, (b"before ", b"yes "), strict=True):
        assert read_wire(wire)[:2] == [Item("-", before), live]


@contextmanager
def talking(peer: Peer) -> Iterator[bytearray]:
    """Let its application write without a pause; yields what it wrote."""
    written, stop = bytearray(), threading.Event()
    turns = itertools.count()

    def talk() -> None:
        while not stop.is_set():
            turn = next(turns)
            some = payload(turn * 7919 % 3000 + 1, turn)
            peer.write(some)
            written.extend(some)
            time.sleep(0.0003)
        peer.end()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield written
    finally:
        stop.set()
        thread.join()


def test_live_streams_begin_and_end_while_bytes_flow_both_ways(world: World) -> None:
    rounds = 15
    near, far = world.fifo(), world.fifo()
    server = world.start("listen", *xor("receive"), *far.option, "127.0.0.1", 0)
    relay = world.relay(server.port, whole)
    client = world.start("connect", *xor("receive"), *near.option, "127.0.0.1", relay.port)
    ends = ((near, client), (far, server))
    server.wait_event("event=accepted")
    with talking(client) as forth, talking(server) as back:
        for _, end in ends:
            end.wait_some()
        for number in range(1, rounds + 1):
            for fifo, end in ends:
                fifo.tell("set 1 both", f"arm {number:016x} 10000")
                end.wait_event("event=armed", number)
            near.tell("go")
            for _, end in ends:
                end.wait_event("event=mark-received", number)
            for fifo, _ in ends:
                fifo.tell("set 1 receive")
            for _, end in ends:
                end.wait_event("event=end-received", number)
    assert (client.status(), server.status()) == (0, 0)
    assert server.received == forth
    assert client.received == back


def test_what_could_be_a_mark_is_given_back_when_the_window_is_over(world: World) -> None:
    fifo = world.fifo()
    server = world.start("listen", *tag(), *fifo.option, "127.0.0.1", 0)
    other = world.client(server.port)
    other.sendall(b"plain ")
    server.wait_received(b"plain ")
    fifo.tell(f"arm {TOKEN.hex()} 300")
    server.wait_event("event=armed")
    begin = mark(kind=b"L")[:19]
    other.sendall(begin)
    server.wait_event("event=go-over")
    server.wait_received(b"plain " + begin)
    fifo.tell("go")
    server.wait_event("event=go-refused")
    fifo.tell("disarm", "nonsense")
    server.wait_event("no such command")
    assert "event=disarmed" in server.log
    assert server.process.poll() is None


# -- a peer that does not keep to the format


@pytest.mark.parametrize(
    ("broken", "reason", "handed_over"),
    [
        (frame(b"Z", b"secret"), "no such frame", b""),
        (frame(b"E", b"secret"), "no such frame", b""),
        (switch(b"NONE", 1), "a switch to a customization that may not", b""),
        (data(b"secret", b"XTAG" + bytes(24)), "the module could not work", b""),
        (data(b"secret")[:-1], "ended inside a frame", b"secre"),
        (switch(b"SXOR", 1) + data(b"secret")[:-1], "ended inside a frame", b""),
        (switch(b"SXOR", 1) + b"D\0\xff\xff", "longer than a receiver can hold", b""),
    ],
)
def test_a_broken_format_is_a_reset(
    world: World, broken: bytes, reason: str, handed_over: bytes
) -> None:
    server = world.start("listen", *tag(), *xor(), "127.0.0.1", 0)
    hostile = world.client(server.port)
    hostile.sendall(mark() + data(b"before ", tag_head()) + broken)
    with suppress(OSError):  # it can be reset already
        hostile.shutdown(socket.SHUT_WR)
    assert server.status() == 2
    with pytest.raises(ConnectionResetError):
        hostile.recv(1)
    assert reason in server.log
    assert server.received == b"before " + handed_over


def test_a_peer_that_never_ends_is_reset(world: World) -> None:
    fifo = world.fifo()
    server = world.start("listen", *tag(), *fifo.option, "127.0.0.1", 0)
    silent = world.client(server.port)
    silent.sendall(mark() + data(b"before", tag_head()))
    server.wait_received(b"before")
    fifo.tell("drain 100")
    assert server.status() == 2
    with pytest.raises(ConnectionResetError):
        silent.recv(1)
    assert "not ended in time" in server.log


# -- waiting


def test_a_delayed_send_does_not_delay_what_is_received(world: World) -> None:
    server = world.start("listen", *module("rate_limit", delay=60_000), "127.0.0.1", 0)
    other = world.client(server.port)
    server.write(b"late")
    other.sendall(b"meanwhile")
    server.wait_received(b"meanwhile")
    assert server.is_idle()
    server.process.send_signal(signal.SIGINT)
    assert server.status() == 0
    with pytest.raises(ConnectionResetError):  # what waits is lost: this is no orderly end
        other.recv(100)


def test_delayed_sends_arrive_whole(world: World) -> None:
    sent = payload(150_000)
    server = world.start("listen", *xor(), "127.0.0.1", 0, stdin=b"")
    slow = module("rate_limit", "priority=1", delay=20)
    client = world.start("connect", *slow, *xor(), "127.0.0.1", server.port, stdin=sent)
    assert (client.status(), server.status()) == (0, 0)
    assert server.received == sent


def blocked(world: World, stdout: int) -> tuple[Peer, socket.socket]:
    """Return a peer whose application does not read, and who has sent it more than there is room
    for."""
    server = world.start("listen", *tag(), "127.0.0.1", 0, stdout=stdout)
    other = world.client(server.port)
    other.settimeout(0.5)
    other.sendall(mark() + tagged(bytes(20_000), 20_000))
    server.wait_event("event=mark-received")
    with pytest.raises(TimeoutError):
        other.sendall(tagged(bytes(100_000_000), 50_000))
    server.end()
    return server, other


def test_an_application_that_does_not_read_makes_the_peer_wait(world: World) -> None:
    reading, writing = os.pipe()
    server, other = blocked(world, writing)
    os.close(writing)
    assert server.is_idle()
    os.close(reading)
    assert server.status() == 1
    assert "cannot write to the application: Broken pipe" in server.log
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        other.sendall(bytes(10_000_000))


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_signal_ends_it_whoever_does_not_read(world: World, kind: str) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        near, far = socket.socketpair()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        reading, writing = near.detach(), far.detach()
    server, other = blocked(world, writing)
    server.process.send_signal(signal.SIGINT)
    assert server.status() == 0
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        other.sendall(bytes(10_000_000))
    os.close(reading)
    os.close(writing)


def test_a_peer_that_does_not_read_makes_the_application_wait(world: World) -> None:
    """And is sent the rest of a frame that went only in part."""
    server = world.server()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sent = payload(10_000_000)
    client = world.start("connect", *xor(), "127.0.0.1", server.getsockname()[1], stdin=sent)
    slow = world.accept(server)
    assert client.is_idle()
    with slow.makefile("rb") as file:
        wire = file.read()
    slow.close()
    assert client.status() == 0
    assert restore(read_wire(wire)) == sent


def test_a_peer_that_has_ended_is_no_work_while_nobody_reads(world: World) -> None:
    reading, writing = os.pipe()
    sent = payload(200_000)
    server = world.start("listen", *tag(), "127.0.0.1", 0, stdin=b"", stdout=writing)
    os.close(writing)
    with world.client(server.port) as other:
        other.sendall(mark() + tagged(sent))
        other.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        assert server.is_idle()
    with open(reading, "rb") as file:
        assert file.read() == sent
    assert server.status() == 0


def test_a_mark_is_not_late_because_a_read_cut_it(world: World) -> None:
    """It came in time; the application did not read before the window was over."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    fifo = world.fifo()
    server = world.start(
        "listen", *tag("receive"), *fifo.option, "127.0.0.1", 0, stdin=b"", stdout=writing
    )
    os.close(writing)
    other = world.client(server.port)
    other.sendall(b"plain")
    assert os.read(reading, 5) == b"plain"
    fifo.tell(f"arm {TOKEN.hex()} 500")
    server.wait_event("event=armed")
    server.process.send_signal(signal.SIGSTOP)
    before = payload(65536 - 10)  # a read of 65536 bytes cuts the mark
    other.sendall(before + mark(kind=b"L") + tagged(b"tagged", 6))
    until(lambda: fcntl.ioctl(other, termios.TIOCOUTQ, bytes(4)) == bytes(4), lambda: "on its way")
    other.shutdown(socket.SHUT_WR)
    server.process.send_signal(signal.SIGCONT)
    time.sleep(0.6)  # the window
    with os.fdopen(reading, "rb") as application:
        assert application.read() == before + b"tagged"
    assert server.status() == 0


# -- the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_order(world: World, number: signal.Signals) -> None:
    waiting = world.start("listen", *tag(), "127.0.0.1", 0)
    assert waiting.port
    connected = world.start("listen", *tag(), "127.0.0.1", 0)
    other = world.client(connected.port)
    other.sendall(mark() + data(b"hello", tag_head()))
    connected.wait_received(b"hello")
    for peer in (waiting, connected):
        peer.process.send_signal(number)
        assert peer.status() == 0
    assert other.recv(100) == b""


def test_a_signal_resets_what_is_not_handed_over(world: World) -> None:
    """Nobody shall take a part of a stream for all of it."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    server = world.start("listen", *tag(), "127.0.0.1", 0, stdout=writing)
    other = world.client(server.port)
    other.sendall(mark() + tagged(bytes(20_000), 20_000))
    server.wait_event("event=mark-received")
    server.process.send_signal(signal.SIGINT)
    assert server.status() == 0
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    os.close(reading)
    os.close(writing)
