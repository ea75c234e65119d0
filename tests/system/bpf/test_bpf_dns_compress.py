"""Real `dig` asks real `dnsmasq` through dns_compress on both ends of a wire."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mininet_topos.namespaces import inside
from tests.system.bpf.kit import PORT, SERVER, Host, Wire, messages_of

pytestmark = pytest.mark.system

NAME, ADDRESS = "www.example.org", "10.99.7.7"
QUESTION = b"\3www\7example\3org\0"
A_IN, TXT_IN = b"\0\1\0\1", b"\0\x10\0\1"
LONG_TEXT = [letter * 200 for letter in "abc"]
"""More than a response has room for without EDNS (512 bytes)."""

OPT = bytes.fromhex("00 0029 04d0 00000000 000c 000a 0008 0102030405060708")


@contextmanager
def dnsmasq(host: Host) -> Iterator[None]:
    """Run a name server that knows one name, until the caller is done with it."""
    command = ["dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null"]
    command += ["--no-hosts", "--no-resolv", "--user=root", "--pid-file=", "--bind-interfaces"]
    command += [f"--listen-address={SERVER}", f"--host-record={NAME},{ADDRESS}"]
    command += [f"--txt-record={NAME},{','.join(LONG_TEXT)}"]
    with inside(host.namespace):
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with server:
        try:
            first = server.stderr.readline() if server.stderr else "no output"
            assert "started" in first, first
            yield
        finally:
            server.terminate()


def dig(host: Host, *options: str) -> str:
    """Return what dig prints of a response; fails where there is none."""
    command = ["dig", "+time=3", "+tries=1", f"@{SERVER}", NAME, *options]
    with inside(host.namespace):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def compressed(wire: Wire) -> Wire:
    """Customize on both ends what dig asks dnsmasq."""
    server, client = wire.server, wire.client
    server.apply(
        server.customization("dns_compress", receive=True, process="dnsmasq", local_port=PORT)
    )
    client.apply(client.customization("dns_compress", send=True, process="dig", remote_port=PORT))
    return wire


@pytest.fixture
def answered(compressed: Wire) -> Iterator[Wire]:
    """Let a real dnsmasq answer."""
    with dnsmasq(compressed.server):
        yield compressed


@pytest.mark.parametrize(
    "options",
    [[], ["+noedns", "+noadflag"], ["+dnssec", "+cdflag"], ["+subnet=192.0.2.0/24"]],
    ids=["as-ever", "no-edns", "dnssec", "subnet"],
)
def test_dig_gets_its_answer_to_a_reduced_query(answered: Wire, options: list[str]) -> None:
    printed = dig(answered.client, "+short", *options)
    frame = answered.wiretap.next()
    frame.check()
    assert printed == f"{ADDRESS}\n"
    assert (frame.payload[:4], frame.payload[6:]) == (b"DNSC", QUESTION + A_IN)
    sent, received = answered.client.counters()[0], answered.server.counters()[0]
    assert messages_of(sent) == {"sent": 1}
    assert messages_of(received) == {"received": 1}


@pytest.mark.parametrize("option", ["+norecurse", "+zflag", "+tcflag", "+aaflag"])
def test_query_that_does_not_fit_goes_plain_and_is_answered(answered: Wire, option: str) -> None:
    printed = dig(answered.client, "+short", option)
    frame = answered.wiretap.next()
    frame.check()
    assert printed == f"{ADDRESS}\n"
    assert frame.payload[4:6] == b"\0\1", "the number of questions"
    assert QUESTION + A_IN in frame.payload
    sent, received = answered.client.counters()[0], answered.server.counters()[0]
    assert messages_of(sent) == {"passed": 1}
    assert messages_of(received) == {"passed": 1}


def test_answer_that_is_too_long_without_edns_is_asked_for_again_by_tcp(answered: Wire) -> None:
    """What the loss of EDNS costs: dig offered 1232 bytes, the server knew nothing of it."""
    printed = dig(answered.client, "TXT")
    assert answered.wiretap.next().payload[6:] == QUESTION + TXT_IN
    assert "Truncated, retrying in TCP mode" in printed
    assert all(text in printed for text in LONG_TEXT)


def test_names_of_every_length_come_through(compressed: Wire) -> None:
    sender = compressed.client.udp("dig")
    receiver = compressed.server.udp("dnsmasq", PORT)
    for size in (0, *range(2, 255)):
        name = b"\1a" * (size // 2 - size % 2) + b"\2bb" * (size % 2) + b"\0"
        header = struct.pack("!HH", size, 0x0120)
        query = header + bytes.fromhex("0001 0000 0000 0001") + name + A_IN + OPT
        reduced = b"DNSC" + header[:2] + name + A_IN
        assert compressed.carry(sender, "dig", query).payload == reduced
        restored = header[:2] + bytes.fromhex("0100 0001 0000 0000 0000") + name + A_IN
        assert receiver.recv(2048) == restored
