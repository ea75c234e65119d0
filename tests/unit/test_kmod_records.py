"""Customizations as the kernel tap gets them, and flows as it tells them."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from host_agent.kmod_abi import CMD_FLOW_BROKEN, CMD_GET_FLOWS
from host_agent.kmod_netlink import L45, LOST, NOT_LOADED, Event, _event
from host_agent.kmod_records import (
    Attached,
    pack_address,
    pack_customization,
    pack_match,
    unpack_flow,
)
from tests.unit.kmod_kit import coded, said
from wire.match import Match
from wire.messages import Counters, Customization

FLOW: list[tuple[str, Any]] = [
    ("L45_F_NUMBER", 2**40),
    ("L45_F_PROTOCOL", 6),
    ("L45_F_LOCAL", pack_address(ip_address("10.0.0.1"))),
    ("L45_F_REMOTE", pack_address(ip_address("2001:db8::1"))),
    ("L45_F_LOCAL_PORT", 40000),
    ("L45_F_REMOTE_PORT", 443),
    ("L45_F_PID", 12),
    ("L45_F_TGID", 11),
    ("L45_F_UID", 1000),
    ("L45_F_THREAD", b"w\xffrker"),
    ("L45_F_PROCESS", "curl"),
    ("L45_F_OPENED", 2**60),
    ("L45_F_SENT", 2**60 + 1),
    ("L45_F_TX_STATE", 3),
    ("L45_F_RX_STATE", 1),
    ("L45_F_TX_CHANGES", 1),
    ("L45_F_TX_ID", bytes(15) + b"\x01"),
    ("L45_F_FAULT", 200),
    (
        "L45_F_ATTACHED",
        {
            "attrs": [
                (
                    "L45_F_CUSTOMIZATION",
                    {
                        "attrs": [
                            ("L45_C_ID", bytes(15) + bytes([number])),
                            ("L45_C_PRIORITY", number),
                            ("L45_C_FLAGS", 3),
                            ("L45_C_COUNTERS", {"attrs": [("L45_N_SENT_BYTES", 2**40)]}),
                        ]
                    },
                )
                for number in (1, 2)
            ]
        },
    ),
]


def packed(match: Match) -> dict[str, Any]:
    return dict(pack_match(match)["attrs"])


def test_a_match_says_what_it_asks_for_and_no_more() -> None:
    assert packed(Match(transport="tcp")) == {"L45_M_PROTOCOL": 6}
    assert packed(
        Match(
            transport="udp",
            thread="isc-net-0000",
            process="dig",
            executable="/usr/bin/dig",
            uid=0,
            local="10.1.0.0/16",
            local_port=1,
            local_port_last=9,
            remote="2001:db8::/32",
            remote_port=53,
        )
    ) == {
        "L45_M_PROTOCOL": 17,
        "L45_M_THREAD": "isc-net-0000",
        "L45_M_PROCESS": "dig",
        "L45_M_EXECUTABLE": "/usr/bin/dig",
        "L45_M_UID": 0,
        "L45_M_LOCAL": bytes(10) + b"\xff\xff\x0a\x01\0\0",
        "L45_M_LOCAL_PREFIX": 112,
        "L45_M_LOCAL_PORT": 1,
        "L45_M_LOCAL_PORT_LAST": 9,
        "L45_M_REMOTE": b"\x20\x01\x0d\xb8" + bytes(12),
        "L45_M_REMOTE_PREFIX": 32,
        "L45_M_REMOTE_PORT": 53,
    }


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, 3),
        ({"send": False}, 2),
        ({"receive": False, "active": False}, 5),
        ({"deprecated": True}, 11),
    ],
)
def test_switches_are_flags(changes: dict[str, Any], flags: int) -> None:
    one = Customization(
        id="0f" * 16,
        intent="tag",
        module="stream_tag",
        digest="0" * 64,
        target="kmod",
        match=Match(transport="tcp"),
        parameters=b"\x01\0",
        epoch=7,
        token=b"8 bytes.",
        **({"receive": True, "send": True} | changes),
    )
    attributes = dict(pack_customization(one, "l45_stream_tag")["attrs"])
    assert attributes == {
        "L45_C_ID": b"\x0f" * 16,
        "L45_C_CODE": "l45_stream_tag",
        "L45_C_MATCH": {"attrs": [("L45_M_PROTOCOL", 6)]},
        "L45_C_PRIORITY": 100,
        "L45_C_FLAGS": flags,
        "L45_C_PARAMETERS": b"\x01\0",
        "L45_C_EPOCH": 7,
        "L45_C_TOKEN": b"8 bytes.",
    }


def test_a_flow_is_told_whole() -> None:
    message = coded(CMD_GET_FLOWS, [("L45_A_FLOW", {"attrs": FLOW})])
    flow = unpack_flow(message.get_attr("L45_A_FLOW"))
    assert (flow.number, flow.transport) == (2**40, "tcp")
    assert (str(flow.local), flow.local_port) == ("10.0.0.1", 40000)
    assert (str(flow.remote), flow.remote_port) == ("2001:db8::1", 443)
    assert (flow.pid, flow.tgid, flow.uid, flow.process) == (12, 11, 1000, "curl")
    assert flow.thread == "w\ufffdrker"
    assert flow.executable is None
    assert (flow.opened, flow.sent, flow.received) == (2**60, 2**60 + 1, 0)
    assert (flow.send_state, flow.receive_state) == ("framed", "looking")
    assert flow.fault == "unknown (200)"
    assert (flow.send_id, flow.receive_id) == (f"{1:032x}", None)
    counted = Counters(sent_bytes=2**40)
    assert flow.attached == (
        Attached(f"{1:032x}", 1, 3, counted),
        Attached(f"{2:032x}", 2, 3, counted),
    )
    message = flow.message()
    assert (message.local, message.remote, message.remote_port) == ("10.0.0.1", "2001:db8::1", 443)
    assert (message.opened, message.last_received) == (2**60 / 1e9, None)
    assert message.state == "sends framed, receives looking, broken: unknown (200)"
    assert [one.counters for one in message.customizations] == [counted, counted]


def test_an_event_is_about_its_flow() -> None:
    event = _event(coded(CMD_FLOW_BROKEN, [("L45_A_FLOW", {"attrs": FLOW})]))
    assert event.name == "flow-broken"
    assert event.flow is not None
    assert event.flow.number == 2**40


def test_what_is_nested_is_marked_so() -> None:
    """The kernel's parser refuses what is not."""
    message = coded(3, [("L45_A_SET", {"attrs": [("L45_A_CUSTOMIZATION", {"attrs": []})]})])
    assert said(message) == {"L45_A_SET": {"L45_A_CUSTOMIZATION": {}}}
    assert bytes(message.data)[20:28] == b"\x08\x00\x04\x80\x04\x00\x05\x80"


def test_a_kernel_without_the_tap_says_so() -> None:
    with pytest.raises(NetlinkError) as error:
        L45()
    assert error.value.args[1] == NOT_LOADED


def test_a_listener_that_was_too_slow_is_told() -> None:
    def recv(_: int) -> bytes:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    door = L45.__new__(L45)
    door.asyncore = SimpleNamespace(socket=SimpleNamespace(recv=recv))
    assert list(door._events_now()) == [Event(LOST)]
