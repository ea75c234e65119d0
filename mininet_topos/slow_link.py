"""A link that delays and reorders datagrams, where the kernel has no netem.

`python -m mininet_topos.slow_link ONE OTHER --delay 0.05 --seed 7` joins two interfaces: what
arrives on one leaves by the other. Datagrams (UDP over IPv4 or IPv6) wait for a random time each,
so that later ones overtake earlier ones; everything else goes at once. It ends with a signal, or
when an interface is taken away, and says what it did.
"""

from __future__ import annotations

import argparse
import heapq
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

ETH_P_ALL = 0x0003
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = b"\x08\x00", b"\x86\xdd"
UDP = 17
LONGEST = 65536

MOST_WAITING = 4096
"""Frames that wait at a time; what comes beyond is forwarded at once."""


def is_datagram(frame: bytes) -> bool:
    """Whether an Ethernet frame carries UDP, as far as its first IP header says."""
    if frame[12:14] == ETHERTYPE_IPV4:
        return len(frame) > 23 and frame[23] == UDP
    return frame[12:14] == ETHERTYPE_IPV6 and len(frame) > 20 and frame[20] == UDP


@dataclass
class Delays:
    """Which frame leaves when: pure logic, the time and the waiting are the caller's."""

    longest: float
    """Seconds."""
    random: random.Random
    forwarded: int = 0
    overtaken: int = 0
    """Datagrams that left behind a later one of their direction."""
    _waiting: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _arrived: int = 0
    _newest: dict[int, int] = field(default_factory=dict)

    def arrive(self, way: int, frame: bytes, now: float) -> None:
        """Take a frame that is to leave by `way`."""
        self._arrived += 1
        delay = self.random.uniform(0, self.longest) if is_datagram(frame) else 0.0
        if len(self._waiting) >= MOST_WAITING:
            delay = 0.0
        heapq.heappush(self._waiting, (now + delay, self._arrived, way, frame))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """Return what leaves now, in this order."""
        leaving = []
        while self._waiting and self._waiting[0][0] <= now:
            _, number, way, frame = heapq.heappop(self._waiting)
            self.forwarded += 1
            self.overtaken += number < self._newest.get(way, 0)
            self._newest[way] = max(number, self._newest.get(way, 0))
            leaving.append((way, frame))
        return leaving

    def wait(self, now: float) -> float | None:
        """Return in how many seconds the next frame leaves, or None where none waits."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None


def join(names: tuple[str, str], delays: Delays, going_on: Callable[[], bool]) -> None:
    """Forward between two interfaces while `going_on`; raises OSError where one is taken away."""
    with selectors.DefaultSelector() as selector:
        ends = [_opened(name) for name in names]
        try:
            for number, end in enumerate(ends):
                selector.register(end, selectors.EVENT_READ, number)
            while going_on():
                wait = delays.wait(time.monotonic())
                for key, _ in selector.select(0.2 if wait is None else min(wait, 0.2)):
                    _take(ends[key.data], 1 - key.data, delays)
                for way, frame in delays.due(time.monotonic()):
                    ends[way].send(frame)
        finally:
            for end in ends:
                end.close()


def _opened(name: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.bind((name, ETH_P_ALL))
    return end


def _take(end: socket.socket, way: int, delays: Delays) -> None:
    frame, address = end.recvfrom(LONGEST)
    if address[2] != socket.PACKET_OUTGOING:  # what this program sent itself
        delays.arrive(way, frame, time.monotonic())


def main() -> int:
    """Run as a program; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mininet_topos.slow_link",
        description="Join two interfaces by a link that delays and reorders datagrams.",
    )
    parser.add_argument("interfaces", nargs=2, metavar="INTERFACE")
    parser.add_argument("--delay", type=float, default=0.05, help="the longest, in seconds")
    parser.add_argument("--seed", type=int, default=1, help="of the random delays")
    arguments = parser.parse_args()
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    delays = Delays(arguments.delay, random.Random(arguments.seed))  # noqa: S311 - no secret
    try:
        join(tuple(arguments.interfaces), delays, lambda: not ended)
    except OSError as error:
        print(f"slow_link: {error}", file=sys.stderr)
        return 1
    finally:
        print(f"forwarded {delays.forwarded}, overtaken {delays.overtaken}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
