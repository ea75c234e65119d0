"""How long packet-ins of a real switch wait meanwhile.

A bridge of Open vSwitch, connected to `ryu-manager apps/nco.py`, has some ports into a network
namespace. From there come ARP announcements, which all go to the controller; it writes the
source's entries (anew, where it did so at least 5 s ago). So each is a packet-in that is answered
by flow-mods. Nothing is added to the controller for that: what passes on the ports and on the
OpenFlow connection is watched from outside, with the kernel's time stamps.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyroute2 import netns

from mininet_topos import openvswitch
from mininet_topos.namespaces import inside
from mininet_topos.processes import run

BRIDGE = "l45bench"
NAMESPACE = "l45-bench"
DPID = "00000000004c3435"
PORTS = 8
HOSTS = 50
"""Of each port; the controller believes in 64."""
ROUND_SECONDS = 5.5
"""In which each host announces itself once; the controller writes an entry once in 5 s."""

PREFIX = b"\x02\x4c\x35"
ARP_ANNOUNCEMENT = struct.Struct("!6s6sHHHBBH6s4s6s4s18x")
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_ATTACH_FILTER = 26
TIMESPEC = struct.Struct("@qq")
RECEIVE_BUFFER = 8 << 20


@dataclass
class Latencies:
    """Of the packet-ins of some span, in seconds."""

    host: list[float] = field(default_factory=list)
    """From the host's packet to the answer's leaving the controller."""
    controller: list[float] = field(default_factory=list)
    """From the packet-in's leaving the switch to the answer's leaving the controller."""
    lost: int = 0
    """Packets whose answer was not seen."""


@dataclass
class _Seen:
    sent: float
    asked: float | None = None
    answered: float | None = None


class Watch:
    """Sends announcements, and watches what becomes of them, in a thread of its own."""

    def __init__(self, openflow_port: int) -> None:
        self._port = openflow_port
        self._ended = threading.Event()
        self._seen: list[dict[bytes, _Seen]] = [{}]
        self._lock = threading.Lock()
        with inside(NAMESPACE):
            self._hosts = [_packets(_far(port)) for port in range(PORTS)]
        self._near = [_packets(_near(port)) for port in range(PORTS)]
        self._openflow = _packets("lo", _tcp_port_filter(openflow_port))
        self._threads = [
            threading.Thread(target=self._send, daemon=True),
            threading.Thread(target=self._receive, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for sock in (*self._hosts, *self._near, self._openflow):
            sock.close()

    def take(self) -> Latencies:
        """Return what was seen since this was called last; some of the last packets may wait."""
        time.sleep(0.2)
        with self._lock:
            spans, self._seen = self._seen, [{}]
        found = Latencies()
        for seen in (seen for span in spans for seen in span.values()):
            if seen.asked is None or seen.answered is None:
                found.lost += 1
                continue
            found.host.append(seen.answered - seen.sent)
            found.controller.append(seen.answered - seen.asked)
        return found

    def _send(self) -> None:
        """Have one host after the other announce itself."""
        pause = ROUND_SECONDS / (PORTS * HOSTS)
        due = time.monotonic()
        number = 0
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due += pause
            host, port = divmod(number % (PORTS * HOSTS), PORTS)
            self._hosts[port].send(_announcement(port, host))
            number += 1
            if number % (PORTS * HOSTS) == 0:
                with self._lock:
                    self._seen.append({})  # the same hosts come again

    def _receive(self) -> None:
        sockets = [*self._near, self._openflow]
        while not self._ended.is_set():
            for sock in select.select(sockets, [], [], 0.1)[0]:
                self._take_in(sock)

    def _take_in(self, sock: socket.socket) -> None:
        while True:
            try:
                data, ancillary, _, address = sock.recvmsg(65536, 128)
            except BlockingIOError:
                return
            at = _time_of(ancillary)
            with self._lock:
                if sock is not self._openflow:
                    self._on_port(data, address, at)
                elif address[2] == socket.PACKET_OUTGOING:
                    self._on_openflow(data, at)

    def _on_port(self, data: bytes, address: tuple[object, ...], at: float) -> None:
        """Note that a host's packet has come to the switch."""
        if address[2] != socket.PACKET_OUTGOING and data[6:9] == PREFIX:
            self._seen[-1].setdefault(data[6:12], _Seen(at))

    def _on_openflow(self, data: bytes, at: float) -> None:
        """Find hosts in what passes between switch and controller; none is known: ignore."""
        to_controller = data[36:38] == self._port.to_bytes(2, "big")
        position = data.find(PREFIX, 54)
        while position >= 0:
            mac = data[position : position + 6]
            seen = next((span[mac] for span in reversed(self._seen) if mac in span), None)
            if seen and to_controller and seen.asked is None:
                seen.asked = at
            elif seen and not to_controller and seen.answered is None and seen.asked is not None:
                seen.answered = at
            position = data.find(PREFIX, position + 6)


@contextlib.contextmanager
def switch(openflow_port: int) -> Iterator[None]:
    """Have the bridge and its hosts; needs root. Raises TestbedError."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(openvswitch.alone())
        stack.enter_context(openvswitch.ensure_running())
        netns.create(NAMESPACE)
        stack.callback(netns.remove, NAMESPACE)
        stack.callback(run, "ovs-vsctl", "--if-exists", "del-br", BRIDGE)
        kind = f"datapath_type={openvswitch.datapath_type()}"
        run(
            *("ovs-vsctl", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, kind),
            *("protocols=OpenFlow13", "fail_mode=secure", f"other-config:datapath-id={DPID}"),
        )
        for port in range(PORTS):
            near, far = _near(port), _far(port)
            run(
                *("ip", "link", "add", near, "type", "veth"),
                *("peer", "name", far, "netns", NAMESPACE),
            )
            stack.callback(run, "ip", "link", "del", near)
            run("ip", "link", "set", near, "up")
            run("ip", "-n", NAMESPACE, "link", "set", far, "up")
            run("ovs-vsctl", "add-port", BRIDGE, near)
        run("ovs-vsctl", "set-controller", BRIDGE, f"tcp:127.0.0.1:{openflow_port}")
        yield


def is_possible() -> bool:
    """Whether this process may make namespaces and bridges."""
    return os.geteuid() == 0


def _near(port: int) -> str:
    return f"l45b{port}"


def _far(port: int) -> str:
    return f"h{port}"


def _announcement(port: int, host: int) -> bytes:
    """Return the ARP announcement of a host (RFC 5227)."""
    mac = PREFIX + bytes((0, port, host))
    address = bytes((10, 32, port, host + 1))
    return ARP_ANNOUNCEMENT.pack(
        b"\xff" * 6, mac, 0x0806, 1, 0x0800, 6, 4, 1, mac, address, bytes(6), address
    )


def _packets(interface: str, program: bytes | None = None) -> socket.socket:
    """Return a socket that gets what passes on an interface, with the time of each."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if program is not None:
        code = ctypes.create_string_buffer(program)
        pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
    sock.bind((interface, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def _tcp_port_filter(port: int) -> bytes:
    """Return a classic BPF program: IPv4, TCP, from or to a port."""
    steps = [
        (0x28, 0, 0, 12),  # ldh ethertype
        (0x15, 0, 7, 0x0800),
        (0x30, 0, 0, 23),  # ldb protocol
        (0x15, 0, 5, socket.IPPROTO_TCP),
        (0x28, 0, 0, 34),  # ldh source port
        (0x15, 2, 0, port),
        (0x28, 0, 0, 36),  # ldh destination port
        (0x15, 0, 1, port),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("@HBBI", *step) for step in steps)


def _time_of(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = TIMESPEC.unpack(data[: TIMESPEC.size])
            return float(seconds + nanoseconds / 1e9)
    return time.time()
