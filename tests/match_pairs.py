"""Random pairs of a match and a socket, and whether they belong together: an oracle for all taps.

What `Match` says is worked out here from its words, with Python's own types, and shares no code
with what it judges (kernel_tap/core/match.h, kernel_tap/kmod/owner.c, host_agent/bpf_abi.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, TypeVar

from wire.match import EXECUTABLE_MAX, Match
from wire.messages import MAX_CUSTOMIZATIONS

T = TypeVar("T")

NAMES = ("dig", "digg", "di", "isc-net-0000", "fifteen-letters", "x")
UIDS = (0, 1, 1000, 65534)
LOCAL = ("10.97.0.1", "10.97.1.1", "fd97::1", "fd97:0:1::1", "::ffff:10.97.0.1")
REMOTE = ("10.97.0.9", "10.98.7.7", "fd97::9", "2001:db8::7", "::ffff:10.98.7.7")
PORTS = (1024, 4000, 4001, 40000, 65535)
PREFIXES = {4: (0, 8, 15, 16, 24, 31, 32), 6: (0, 16, 47, 48, 64, 95, 127, 128)}

PROGRAMS = ("one", "one-more", "sub/one", "long/" + "n" * 200)
"""Paths of executables, below a folder of the runner's."""


@dataclass(frozen=True)
class Probe:
    """A socket, by who has it and what it connects."""

    executable: str
    process: str
    thread: str
    uid: int
    local: str
    local_port: int
    remote: str
    remote_port: int

    def line(self) -> str:
        """Return it as tests/vm/programs/match_prober.c reads it."""
        return " ".join(str(value) for value in vars(self).values())


def belongs(match: Match, probe: Probe) -> bool:
    """Whether `match` is for a UDP datagram that leaves the socket."""
    wanted: dict[str, Callable[[Any], bool]] = {
        "executable": lambda path: len(path) <= EXECUTABLE_MAX and path == probe.executable,
        "process": lambda name: name == probe.process,
        "thread": lambda name: name == probe.thread,
        "uid": lambda uid: uid == probe.uid,
        "local": lambda prefix: _is_in(probe.local, prefix),
        "remote": lambda prefix: _is_in(probe.remote, prefix),
        "local_port": lambda first: first <= probe.local_port <= (match.local_port_last or first),
        "remote_port": lambda first: (
            first <= probe.remote_port <= (match.remote_port_last or first)
        ),
    }
    said = {name: getattr(match, name) for name in wanted}
    return match.transport == "udp" and all(
        wanted[name](value) for name, value in said.items() if value is not None
    )


def _is_in(address: str, prefix: Any) -> bool:  # noqa: ANN401 - either version's network
    """An IPv4 address is in IPv6 prefixes as the mapped one that it is."""
    exact = ip_address(address)
    if isinstance(exact, IPv6Address) and exact.ipv4_mapped:
        exact = exact.ipv4_mapped
    if exact.version == 4 and prefix.version == 6:
        exact = IPv6Address(f"::ffff:{exact}")
    return exact.version == prefix.version and exact in prefix


@dataclass(frozen=True)
class Round:
    """A set of matches, and sockets to try it on."""

    matches: list[Match]
    probes: list[Probe]

    def expected(self, probe: Probe) -> list[bool]:
        """Return which of the matches are for the socket."""
        return [belongs(match, probe) for match in self.matches]


def rounds(seed: int, folder: str, count: int = 4, probes: int = 16) -> list[Round]:
    """Return rounds of as many matches as a set holds; executables are below `folder`."""
    chosen = random.Random(seed)  # noqa: S311 - reproducible, not secret
    return [_round(chosen, folder, probes) for _ in range(count)]


def _round(chosen: random.Random, folder: str, count: int) -> Round:
    # Sockets of one local address have different ports: they are all open at once.
    ends = [(local, port) for local in LOCAL for port in PORTS if local != LOCAL[-1]]
    ends += [(LOCAL[-1], port + 2) for port in PORTS[:-1]]
    probes = [_probe(chosen, folder, *end) for end in chosen.sample(ends, count)]
    matches = [_match(chosen, chosen.choice(probes), folder) for _ in range(MAX_CUSTOMIZATIONS)]
    return Round(matches, probes)


def _probe(chosen: random.Random, folder: str, local: str, port: int) -> Probe:
    def family(address: str) -> tuple[bool, bool]:
        return ":" in address, "." in address

    return Probe(
        executable=f"{folder}/{chosen.choice(PROGRAMS)}",
        process=chosen.choice(NAMES),
        thread=chosen.choice(NAMES),
        uid=chosen.choice(UIDS),
        local=local,
        local_port=port,
        remote=chosen.choice([one for one in REMOTE if family(one) == family(local)]),
        remote_port=chosen.choice(PORTS),
    )


def _match(chosen: random.Random, probe: Probe, folder: str) -> Match:
    """Return a match that is near the socket: most of its fields are as the socket has them."""

    def near(right: T, others: tuple[T, ...]) -> T | None:
        if chosen.random() < 0.7:
            return None
        return right if chosen.random() < 0.85 else chosen.choice(others)

    paths = tuple(f"{folder}/{name}" for name in (*PROGRAMS, "none", "ONE"))
    fields: dict[str, Any] = {
        "executable": near(probe.executable, paths),
        "process": near(probe.process, NAMES),
        "thread": near(probe.thread, NAMES),
        "uid": near(probe.uid, UIDS),
        "local": _near_prefix(chosen, near(probe.local, LOCAL)),
        "remote": _near_prefix(chosen, near(probe.remote, REMOTE)),
    }
    for side, port in (("local", probe.local_port), ("remote", probe.remote_port)):
        first = near(port, PORTS)
        if first is not None and chosen.random() < 0.5:
            first, last = max(1, first - chosen.choice((0, 1, 900))), first
            fields[f"{side}_port_last"] = min(65535, last + chosen.choice((0, 1, 900)))
        fields[f"{side}_port"] = first
    return Match(
        transport="udp", **{name: value for name, value in fields.items() if value is not None}
    )


def _near_prefix(chosen: random.Random, address: str | None) -> str | None:
    if address is None:
        return None
    exact = ip_address(address)
    if isinstance(exact, IPv6Address) and exact.ipv4_mapped and chosen.random() < 0.7:
        exact = exact.ipv4_mapped
    length = chosen.choice(PREFIXES[exact.version])
    number = int(exact) >> (exact.max_prefixlen - length) << (exact.max_prefixlen - length)
    return f"{type(exact)(number)}/{length}"
