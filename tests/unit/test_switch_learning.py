"""Hosts, links and headers, as forged as packets can be."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps import headers, lldp
from apps.headers import Source
from apps.learning import (
    HOSTS_AT_MOST,
    HOSTS_PER_PORT,
    LINK_SECONDS,
    STALE_SECONDS,
    Hosts,
    Links,
    Outcome,
)

H1 = Source("00:00:00:00:00:01", "10.10.0.1", announced=True)
HERE, THERE = (2, 1), (1, 7)
LINK = (1, 5)


def numbered(number: int) -> Source:
    return Source(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}")


def places(hosts: Hosts) -> list[tuple[str, int, int]]:
    return [(host.address, host.dpid, host.port) for host in hosts.seen()]


def test_a_host_is_learnt_once_and_then_known() -> None:
    hosts = Hosts()
    assert hosts.hear(HERE, H1, False, 0) is Outcome.LEARNT
    assert hosts.hear(HERE, H1, False, 1) is Outcome.KNOWN
    assert places(hosts) == [("10.10.0.1", 2, 1)]


def test_a_host_that_speaks_on_another_port_has_moved() -> None:
    hosts = Hosts()
    hosts.hear(HERE, H1, False, 0)
    assert hosts.hear(THERE, H1, False, 1) is Outcome.MOVED
    assert places(hosts) == [("10.10.0.1", 1, 7)]


def test_two_ports_that_claim_one_host_move_it_once_a_second_at_most() -> None:
    hosts = Hosts()
    outcomes = [hosts.hear((1, n % 2), H1, False, n / 100) for n in range(300)]
    assert outcomes.count(Outcome.MOVED) == 2


def test_a_link_to_another_switch_is_no_place_for_a_host() -> None:
    hosts = Hosts()
    assert hosts.hear(LINK, H1, True, 0) is Outcome.REFUSED
    hosts.hear(HERE, H1, False, 1)
    assert hosts.hear(LINK, H1, True, 2) is Outcome.KNOWN
    assert places(hosts) == [("10.10.0.1", 2, 1)]


def test_a_host_does_not_come_back_to_its_own_switch_by_a_link() -> None:
    hosts = Hosts()
    hosts.hear(THERE, H1, False, 0)
    assert hosts.hear(LINK, H1, True, 1) is Outcome.REFUSED


def test_forged_sources_fill_one_port_and_no_more() -> None:
    hosts = Hosts()
    outcomes = [hosts.hear(HERE, numbered(n), False, n / 1000) for n in range(1000)]
    assert outcomes.count(Outcome.LEARNT) == HOSTS_PER_PORT
    assert hosts.hear(THERE, H1, False, 2) is Outcome.LEARNT


def test_a_silent_host_makes_room_on_a_full_port() -> None:
    hosts = Hosts()
    for number in range(HOSTS_PER_PORT):
        hosts.hear(HERE, numbered(number), False, 0)
    assert hosts.hear(HERE, H1, False, STALE_SECONDS - 1) is Outcome.REFUSED
    assert hosts.hear(HERE, H1, False, STALE_SECONDS) is Outcome.LEARNT


def test_the_table_has_an_end_over_all_ports() -> None:
    hosts = Hosts()
    for number in range(HOSTS_AT_MOST):
        hosts.hear((1, number // HOSTS_PER_PORT), numbered(number), False, 0)
    assert hosts.hear(HERE, H1, False, 1) is Outcome.REFUSED


def test_a_router_does_not_take_the_addresses_it_forwards_for() -> None:
    hosts = Hosts()
    hosts.hear(HERE, H1, False, 0)
    forwarded = Source(H1.mac, "192.0.2.9")
    assert hosts.hear(HERE, forwarded, False, 1) is Outcome.KNOWN
    assert places(hosts) == [("10.10.0.1", 2, 1)]


def test_of_two_hosts_with_one_address_the_one_heard_last_counts() -> None:
    hosts = Hosts()
    hosts.hear(HERE, H1, False, 0)
    hosts.hear(THERE, Source("00:00:00:00:00:09", "10.10.0.1", announced=True), False, 1)
    assert places(hosts) == [("10.10.0.1", 1, 7)]


def test_a_port_that_goes_down_takes_its_hosts_along() -> None:
    hosts = Hosts()
    hosts.hear(HERE, H1, False, 0)
    assert hosts.forget(HERE) == {H1.mac}
    assert hosts.seen() == []


def test_both_ends_of_a_link_are_known_from_one_frame_and_for_a_while() -> None:
    links = Links()
    assert links.hear((2, 3), LINK, 0) == {(2, 3), LINK}
    assert links.hear((2, 3), LINK, 5) == set()
    assert links.has(LINK, 5 + LINK_SECONDS - 1)
    assert not links.has(LINK, 5 + LINK_SECONDS)


def test_a_frame_played_back_to_its_own_switch_makes_no_link() -> None:
    links = Links()
    assert links.hear(HERE, (2, 2), 0) == set()
    assert not links.has(HERE, 0)


KEY = b"k" * 32


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_a_discovery_frame_says_where_it_was_sent(dpid: int, port: int) -> None:
    frame = lldp.encode(dpid, port, KEY)
    assert headers.is_lldp(frame)
    assert lldp.decode(frame, KEY) == (dpid, port)
    assert lldp.decode(frame + b"\0" * 10, KEY) == (dpid, port)


@given(st.integers(0, 73), st.integers(1, 255))
def test_a_changed_discovery_frame_is_not_ours(position: int, change: int) -> None:
    frame = bytearray(lldp.encode(1, 5, KEY))
    frame[position % len(frame)] ^= change
    assert lldp.decode(bytes(frame), KEY) is None


@given(st.binary(max_size=120))
def test_random_bytes_are_no_discovery_frame(data: bytes) -> None:
    assert lldp.decode(data, KEY) is None


MAC = bytes.fromhex("000000000001")


def ethernet(ethertype: int, body: bytes, source: bytes = MAC) -> bytes:
    return b"\xff" * 6 + source + struct.pack("!H", ethertype) + body


def arp(sender: bytes, address: str) -> bytes:
    octets = bytes(int(part) for part in address.split("."))
    return struct.pack("!HHBBH6s4s10x", 1, 0x0800, 6, 4, 1, sender, octets)


def ipv4(address: str) -> bytes:
    octets = bytes(int(part) for part in address.split("."))
    return b"\x45" + b"\0" * 11 + octets + b"\0" * 4


def test_arp_announces_an_address() -> None:
    frame = ethernet(0x0806, arp(MAC, "10.10.0.1"))
    assert headers.read(frame) == Source("00:00:00:00:00:01", "10.10.0.1", announced=True)


def test_arp_for_another_mac_announces_nothing() -> None:
    frame = ethernet(0x0806, arp(b"\0\0\0\0\0\2", "10.10.0.1"))
    source = headers.read(frame)
    assert source is not None
    assert source.address is None


def test_ipv4_shows_an_address() -> None:
    frame = ethernet(0x0800, ipv4("10.10.0.1"))
    assert headers.read(frame) == Source("00:00:00:00:00:01", "10.10.0.1")


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.251", "255.255.255.255", "127.0.0.1"])
def test_addresses_that_no_host_has_are_left_out(address: str) -> None:
    source = headers.read(ethernet(0x0800, ipv4(address)))
    assert source is not None
    assert source.address is None


@pytest.mark.parametrize("mac", [b"\0" * 6, b"\xff" * 6, b"\1\0\x5e\0\0\1"])
def test_a_source_that_is_no_single_host_is_nobody(mac: bytes) -> None:
    assert headers.read(ethernet(0x0800, ipv4("10.10.0.1"), source=mac)) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    source = headers.read(data)
    headers.is_lldp(data)
    assert source is None or len(source.mac) == 17
