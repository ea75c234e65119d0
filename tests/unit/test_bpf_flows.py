"""Records of flows as the eBPF tap's iterator writes them, and deprecation of customizations."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from host_agent.bpf_abi import (
    FLAG_DEPRECATED,
    FLAG_SEND,
    CustomizationStruct,
    EndsStruct,
    FlowCountsStruct,
    FlowHeadStruct,
    SocketStruct,
    pack_address,
    pack_path,
)
from host_agent.bpf_flows import Clock, newest, parse
from host_agent.bpf_tables import Member, plan
from host_agent.tap import TapError
from wire.messages import Counters, Flow

ONE, TWO = "01" * 16, "02" * 16
CLOCK = Clock(1000.0)


def ends(local: str, local_port: int, remote: str = "::", remote_port: int = 0) -> EndsStruct:
    packed = EndsStruct(local_port=local_port, remote_port=remote_port, protocol=17)
    packed.local[:] = pack_address(ip_address(local))
    packed.remote[:] = pack_address(ip_address(remote))
    return packed


def record(own: EndsStruct, counts: FlowCountsStruct | None = None) -> bytes:
    head = FlowHeadStruct(cookie=7, attached=0b10, counted=counts is not None, ends=own)
    socket = SocketStruct(opened=5 * 10**9)
    socket.owner.pid, socket.owner.user.tgid, socket.owner.user.uid = 12, 11, 1000
    socket.owner.executable[:] = pack_path("/usr/bin/dig")
    socket.owner.user.process[:3] = b"dig"
    socket.owner.user.thread[:2] = b"\xff\0"
    return bytes(head) + bytes(socket) + (bytes(counts) if counts else b"")


def counted(last: EndsStruct) -> FlowCountsStruct:
    counts = FlowCountsStruct(ends=last, last_sent=6 * 10**9)
    for place, (number, sent) in enumerate(((2, 3), (1, 5), (2, 4))):
        counts.on[place].id[:] = bytes([number]) * 16
        counts.on[place].counters.sent = sent
    return counts


def test_idle_socket() -> None:
    (flow,) = parse(record(ends("::", 53)), [ONE, TWO], CLOCK)
    assert (flow.local, flow.local_port, flow.remote, flow.remote_port) == ("::", 53, None, None)
    assert (flow.number, flow.pid, flow.tgid, flow.uid) == (7, 12, 11, 1000)
    assert (flow.process, flow.thread, flow.executable) == ("dig", "\ufffd", "/usr/bin/dig")
    assert (flow.opened, flow.last_sent) == (1005.0, None)
    assert [(one.id, one.counters) for one in flow.customizations] == [(TWO, Counters())]


def test_what_the_socket_leaves_open_is_as_in_the_last_message() -> None:
    last = ends("10.0.0.1", 53, "10.0.0.2", 4000)
    (flow,) = parse(record(ends("::", 53), counted(last)), [ONE, TWO], CLOCK)
    assert (flow.local, flow.remote, flow.remote_port) == ("10.0.0.1", "10.0.0.2", 4000)
    assert flow.last_sent == 1006.0
    (one,) = flow.customizations
    assert one.counters.sent == 7, "what two CPUs counted apart is one"
    connected = ends("2001:db8::1", 53, "2001:db8::2", 5000)
    (flow,) = parse(record(connected, counted(last)), [ONE, TWO], CLOCK)
    assert (flow.local, flow.remote, flow.remote_port) == ("2001:db8::1", "2001:db8::2", 5000)


def test_what_is_cut_off_is_not_told() -> None:
    whole = record(ends("::", 53), counted(ends("10.0.0.1", 53))) + record(ends("::", 54))
    assert [flow.local_port for flow in parse(whole, [ONE, TWO], CLOCK)] == [53, 54]
    for size in range(len(whole)):
        assert len(parse(whole[:size], [ONE, TWO], CLOCK)) < 2


def test_the_newest_are_told() -> None:
    flows = [
        Flow(number=n, transport="udp", local="::", local_port=n, opened=float(n)) for n in range(9)
    ]
    assert [flow.number for flow in newest(flows, 3)] == [8, 7, 6]


def wanted(number: int, *, deprecated: bool = False) -> tuple[bytes, int]:
    entry = CustomizationStruct(slot=number)
    entry.id[:] = bytes([number]) * 16
    return bytes(entry), FLAG_SEND | FLAG_DEPRECATED * deprecated


def test_time_of_deprecation_is_kept() -> None:
    own: list[Member] = plan([wanted(1)], [], set(), 10)
    assert [one.deprecated for one in own] == [0]
    for now in (20, 30):
        own = plan([wanted(1, deprecated=True)], own, {0}, now)
        assert [(one.index, one.deprecated) for one in own] == [(0, 20)]
    own = plan([wanted(1)], own, {0}, 40)
    own = plan([wanted(1, deprecated=True)], own, {0}, 50)
    assert [one.deprecated for one in own] == [50]


def test_what_comes_deprecated_stays_so() -> None:
    own: list[Member] = []
    for now in (20, 30):
        own = plan([wanted(1, deprecated=True)], own, {0}, now)
        assert [one.deprecated for one in own] == [0]


def test_a_full_table_is_refused() -> None:
    with pytest.raises(TapError, match="in use"):
        plan([wanted(1)], [], set(range(4096)), 0)
