"""What is told of each socket, and what deprecating and deactivating mean for it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from host_agent.bpf_tap import BpfTap
from mininet_topos.namespaces import inside
from tests.system.bpf.kit import CLIENT, PORT, QUERY, SERVER, TAG_DIG, Wire, named, one_wire

pytestmark = [pytest.mark.system, one_wire]


def test_flow_is_told_whole(wire: Wire) -> None:
    before = time.time() - 1
    wire.tag()
    sender = wire.client.udp("dig", 4000)
    assert [(flow.local_port, flow.remote, flow.last_sent) for flow in wire.client.flows()] == [
        (4000, None, None)
    ]
    wire.carry(sender, "dig", QUERY)
    (flow,) = wire.client.flows()
    assert (flow.transport, flow.local, flow.local_port) == ("udp", CLIENT, 4000)
    assert (flow.remote, flow.remote_port) == (SERVER, PORT)
    assert (flow.pid, flow.tgid, flow.uid) == (os.getpid(), os.getpid(), os.geteuid())
    assert (flow.thread, flow.process) == ("dig", "dig")
    assert flow.executable == str(Path(sys.executable).resolve())
    assert flow.opened is not None
    assert flow.last_sent is not None
    assert before < flow.opened <= flow.last_sent < time.time() + 1
    assert flow.last_received is None
    (one,) = flow.customizations
    assert one.counters.model_dump(exclude_defaults=True) == {"sent": 1, "sent_bytes": len(QUERY)}
    assert one.counters == wire.client.counters()[0]


def test_flow_of_the_receiving_end(wire: Wire) -> None:
    wire.tag()
    receiver, sender = wire.server.udp("dnsmasq", PORT), wire.client.udp("dig", 4000)
    wire.carry(sender, "dig", QUERY)
    assert receiver.recv(2048) == QUERY
    (flow,) = wire.server.flows()
    assert (flow.local, flow.remote, flow.remote_port) == (SERVER, CLIENT, 4000)
    assert flow.customizations[0].counters.received_bytes == len(QUERY)
    assert flow.last_received is not None


def test_flows_go_with_their_sockets_and_are_counted(wire: Wire) -> None:
    """Only those that have customizations are told of, each with what happened on it alone."""
    wire.client.apply(
        wire.client.customization("dns_app_tag", number=1, send=True, process="dig"),
        wire.client.customization("odd_mark", number=2, send=True, priority=200, process="dig"),
    )
    first, second, plain = (wire.client.udp(name) for name in ("dig", "dig", "plain"))
    for sender, times in ((first, 3), (second, 2), (plain, 1)):
        for _ in range(times):
            wire.carry(sender, "dig" if times > 1 else "plain", QUERY)
    counts = [[one.counters.sent for one in flow.customizations] for flow in wire.client.flows()]
    assert counts == [[2, 0], [3, 0]]  # the newest first
    first.close()
    assert [flow.local_port for flow in wire.client.flows()] == [second.getsockname()[1]]


def test_counts_of_a_flow_go_on_when_the_set_changes(wire: Wire) -> None:
    stays = wire.client.customization("dns_app_tag", number=1, send=True, process="dig")
    wire.client.apply(stays)
    sender = wire.client.udp("dig")
    wire.carry(sender, "dig", QUERY)
    for number in range(2, 24):  # more than a socket has places for
        other = wire.client.customization("odd_mark", number=number, send=True, priority=1)
        wire.client.apply(other, stays)
        wire.carry(sender, "dig", QUERY)
    (flow,) = wire.client.flows()
    assert [one.counters.sent for one in flow.customizations] == [1, 0]
    wire.client.apply(stays)
    wire.carry(sender, "dig", QUERY)
    assert wire.client.counters()[0].sent == 2


def test_deprecated_customization_stays_on_the_sockets_that_have_it(wire: Wire) -> None:
    client = wire.client
    client.apply(client.customization("dns_app_tag", send=True, process="dig"))
    old, unused = client.udp("dig"), client.udp("dig")
    wire.carry(old, "dig", QUERY)
    gone = client.customization("dns_app_tag", send=True, process="dig", deprecated=True)
    client.apply(gone)
    fresh = client.udp("dig")
    for _ in range(2):  # also when another set comes
        assert wire.carry(old, "dig", QUERY).payload == TAG_DIG + QUERY
        assert wire.carry(unused, "dig", QUERY).payload == TAG_DIG + QUERY
        assert wire.carry(fresh, "dig", QUERY).payload == QUERY
        assert {flow.local_port for flow in client.flows()} == {
            old.getsockname()[1],
            unused.getsockname()[1],
        }
        client.apply(client.customization("odd_mark", number=2, process="x", send=True), gone)
    client.apply(client.customization("dns_app_tag", send=True, process="dig"))
    assert wire.carry(fresh, "dig", QUERY).payload == TAG_DIG + QUERY


def test_what_comes_deprecated_is_for_no_socket(wire: Wire) -> None:
    sender = wire.client.udp("dig")
    never = wire.client.customization("dns_app_tag", send=True, process="dig", deprecated=True)
    wire.client.apply(never)
    wire.client.apply(never)
    assert wire.carry(sender, "dig", QUERY).payload == QUERY
    assert wire.client.flows() == []


def test_inactive_customization_stays_attached_and_is_passed_over(wire: Wire) -> None:
    client = wire.client
    mark = client.customization("odd_mark", number=2, send=True, priority=200, parameters=b"m")
    tag = client.customization("dns_app_tag", number=1, send=True, process="dig", active=False)
    client.apply(tag, mark)
    sender = client.udp("dig")
    assert wire.carry(sender, "dig", QUERY).payload == QUERY[:1] + b"\xa5m\x5a" + QUERY[1:]
    (flow,) = client.flows()
    assert [one.id for one in flow.customizations] == [tag.id, mark.id]
    client.apply(tag.model_copy(update={"active": True}), mark)
    assert wire.carry(sender, "dig", QUERY).payload == TAG_DIG + QUERY


def test_status_says_what_was_asked_for(wire: Wire) -> None:
    client = wire.client
    client.apply(
        client.customization("dns_app_tag", number=1, send=True, active=False, process="dig"),
        client.customization("odd_mark", number=2, receive=True, deprecated=True, priority=200),
    )
    with named("dig"):
        client.udp("dig")
    with inside(client.namespace):
        said = BpfTap(client.run).customizations()
    assert [(one.send, one.receive, one.active, one.deprecated, one.flows) for one in said] == [
        (True, False, False, False, 1),
        (False, True, True, True, 0),
    ]
