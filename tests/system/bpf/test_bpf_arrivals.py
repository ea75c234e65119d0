"""Packets as no veth delivers them, run through the ingress program by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_agent import libbpf
from mininet_topos.namespaces import inside
from tests import pcap
from tests.system.bpf.kit import PORT, QUERY, TAG_DIG, Frame, Host, Wire, one_wire

pytestmark = [pytest.mark.system, one_wire]

SYS_BPF, BPF_PROG_TEST_RUN = 321, 10
CHECKSUM_COMPLETE = 1 << 2
"""The packet comes with a sum by the device; -EBADMSG if it is wrong after the program."""

TC_ACT_UNSPEC = 0xFFFFFFFF
IP, UDP = 14, 34
DONE, CHANGE = 0, 1


class TestRun(ctypes.Structure):
    """union bpf_attr for BPF_PROG_TEST_RUN."""

    __test__ = False
    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("repeat", ctypes.c_uint32 * 2),
        ("context", ctypes.c_uint64 * 3),
        ("flags", ctypes.c_uint32 * 4),
    )


def arrive(host: Host, frame: bytes, flags: int = 0) -> tuple[int, bytes]:
    """Let a frame arrive; return the verdict and the frame after it."""
    program = libbpf.obj_get(host.run / "bpf" / "programs" / "l45_ingress")
    given_data, after = ctypes.create_string_buffer(frame), ctypes.create_string_buffer(65536)
    attributes = TestRun(
        prog_fd=program,
        data_size_in=len(frame),
        data_size_out=len(after),
        data_in=ctypes.addressof(given_data),
        data_out=ctypes.addressof(after),
    )
    attributes.flags[0] = flags
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        with inside(host.namespace):
            size = ctypes.sizeof(attributes)
            if libc.syscall(SYS_BPF, BPF_PROG_TEST_RUN, ctypes.byref(attributes), size):
                raise OSError(ctypes.get_errno(), "BPF_PROG_TEST_RUN")
    finally:
        os.close(program)
    return attributes.retval, after.raw[: attributes.data_size_out]


def to_server(payload: bytes) -> bytes:
    """Return a frame to the server; BPF_PROG_TEST_RUN has it arrive at lo, whose MAC is zero."""
    frame = pcap.frame(pcap.Datagram(payload, "10.99.0.1", "10.99.0.2", 4000, PORT))
    return bytes(6) + frame[6:]


def receive(wire: Wire, module: str) -> None:
    wire.server.apply(
        wire.server.customization(module, receive=True, process="dnsmasq", parameters=b"x")
    )
    wire.server.udp("dnsmasq", PORT)


def restored(frame: bytes) -> bytes:
    """Return the payload of a frame whose lengths and checksums are right."""
    found = Frame(frame[14:])
    found.check()
    return found.payload


def test_sum_by_the_device_stays_right(wire: Wire) -> None:
    """Where no size changes; with a new size the kernel drops the device's sum by itself."""
    wire.server.apply(
        wire.server.customization("answer", receive=True, parameters=bytes([DONE, CHANGE]))
    )
    wire.server.udp("dnsmasq", PORT)
    for length in range(4, 70):
        message = QUERY.ljust(70, b"x")[:length]
        try:
            verdict, after = arrive(wire.server, to_server(message), CHECKSUM_COMPLETE)
        except OSError as error:
            if error.errno == errno.EINVAL:
                pytest.skip("this kernel cannot test packets with a sum by the device")
            raise
        assert (verdict, restored(after)) == (TC_ACT_UNSPEC, b"\xde\xad\xbe\xef" + message[4:])


@pytest.mark.parametrize("length", range(18))
def test_padding_of_a_short_frame_goes(wire: Wire, length: int) -> None:
    receive(wire, "odd_mark")
    message = QUERY[:length]
    marked = message[:1] + b"\xa5x\x5a" + message[1:] if message else b""
    frame = to_server(marked).ljust(60, b"\x5a")
    _, after = arrive(wire.server, frame)
    assert restored(after) == message
    assert len(after) == (UDP + 8 + length if message else 60)


SPOILT = {
    "another protocol": (12, b"\x86\xdd"),
    "IP version": (IP, b"\x65"),
    "IP header shorter than one": (IP, b"\x44"),
    "IP header longer than the packet": (IP, b"\x4f"),
    "IP length beyond the packet": (IP + 2, b"\xff\xff"),
    "IP length within the header": (IP + 2, b"\0\1"),
    "first fragment": (IP + 6, b"\x20\0"),
    "later fragment": (IP + 6, b"\0\1"),
    "TCP": (IP + 9, b"\6"),
    "another interface's": (0, b"\2\0\0\0\0\2"),
    "nobody's port": (UDP + 2, b"\0\x36"),
    "UDP length zero": (UDP + 4, b"\0\0"),
    "UDP length within the header": (UDP + 4, b"\0\7"),
    "UDP length beyond the packet": (UDP + 4, b"\xff\xff"),
    "UDP length short of the packet": (UDP + 4, b"\0\x20"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_what_is_no_whole_datagram_of_ours_is_left_alone(wire: Wire, fault: str) -> None:
    receive(wire, "dns_app_tag")
    offset, value = SPOILT[fault]
    frame = bytearray(to_server(TAG_DIG + QUERY))
    frame[offset : offset + len(value)] = value
    assert arrive(wire.server, bytes(frame)) == (TC_ACT_UNSPEC, bytes(frame))


def test_any_frame(wire: Wire) -> None:
    """Whatever arrives, it is untouched, or the tag alone is gone from it."""
    receive(wire, "dns_app_tag")
    whole = to_server(TAG_DIG + QUERY)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.integers(UDP, len(whole)),
        st.lists(st.tuples(st.integers(IP, len(whole) - 1), st.integers(0, 255)), max_size=4),
    )
    def check(size: int, changes: list[tuple[int, int]]) -> None:
        changed = bytearray(whole)
        for offset, value in changes:
            changed[offset] = value
        frame = bytes(changed[:size])
        verdict, after = arrive(wire.server, frame)
        assert verdict == TC_ACT_UNSPEC
        if after != frame:
            assert frame[UDP + 8 :].startswith(b"XTAG")
            assert after[UDP + 8 :] == frame[UDP + 8 + 20 :]
            assert struct.unpack_from("!H", after, UDP + 4)[0] == len(after) - UDP
            assert struct.unpack_from("!H", after, IP + 2)[0] == len(after) - IP

    check()
