"""The link that delays datagrams: what it delays, and that it loses and makes nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mininet_topos.slow_link import MOST_WAITING, Delays, is_datagram

IPV4_UDP = bytes(12) + b"\x08\x00" + bytes(9) + b"\x11" + bytes(10)
IPV4_TCP = bytes(12) + b"\x08\x00" + bytes(9) + b"\x06" + bytes(10)
IPV6_UDP = bytes(12) + b"\x86\xdd" + bytes(6) + b"\x11" + bytes(40)
ARP = bytes(12) + b"\x08\x06" + bytes(28)


def delays(longest: float = 1.0, seed: int = 1) -> Delays:
    return Delays(longest, random.Random(seed))  # noqa: S311 - no secret


def test_datagrams_of_both_families_are_told_from_all_else() -> None:
    assert is_datagram(IPV4_UDP)
    assert is_datagram(IPV6_UDP)
    assert not is_datagram(IPV4_TCP)
    assert not is_datagram(ARP)
    assert not is_datagram(IPV4_UDP[:23])


def test_what_is_no_datagram_leaves_at_once() -> None:
    link = delays()
    link.arrive(1, ARP, 10.0)
    assert link.due(10.0) == [(1, ARP)]
    assert link.wait(10.0) is None


def test_datagrams_overtake_each_other() -> None:
    link = delays()
    for number in range(64):
        link.arrive(0, IPV4_UDP + bytes([number]), 0.0)
    left = [frame[-1] for _, frame in link.due(1.0)]
    assert left != sorted(left)
    assert link.overtaken > 0


@given(
    st.lists(st.tuples(st.integers(0, 1), st.binary(min_size=14, max_size=40), st.floats(0, 2))),
    st.integers(),
)
def test_everything_arrives_once_and_in_time(
    frames: list[tuple[int, bytes, float]], seed: int
) -> None:
    link = delays(0.5, seed)
    left = []
    for way, frame, now in sorted(frames, key=lambda one: one[2]):
        link.arrive(way, frame, now)
        left += link.due(now)
    left += link.due(2.5)
    assert sorted(left) == sorted((way, frame) for way, frame, _ in frames)
    assert link.wait(3.0) is None


def test_what_waits_is_bounded() -> None:
    link = delays(60.0)
    for _ in range(MOST_WAITING + 10):
        link.arrive(0, IPV4_UDP, 0.0)
    assert len(link.due(0.0)) >= 9
