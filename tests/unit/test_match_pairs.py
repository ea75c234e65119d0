"""A thousand pairs of a match and a socket: the matcher of the eBPF tap, here in user space.

The same pairs decide alike in kernels: tests/system/bpf/test_bpf_match.py, tests/vm/match_check.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from host_agent.bpf_abi import (
    PROTOCOLS,
    EndsStruct,
    MatchStruct,
    OwnerStruct,
    pack_address,
    pack_match,
    pack_path,
)
from tests.match_pairs import Probe, belongs, rounds
from tests.unit.test_bpf_abi import compile_c
from wire.match import Match

SEED = 5
FOLDER = "/opt/l45"

MATCHER = """
#include <stdio.h>
#include <match.h>
int main(void)
{
	struct { struct l45_match match; struct l45_owner owner; struct l45_ends ends; } pair;

	while (fread(&pair, sizeof(pair), 1, stdin) == 1)
		putchar(l45_matches(&pair.match, &pair.owner, &pair.ends) ? '1' : '0');
	return 0;
}
"""


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("matcher"), MATCHER)


def packed(match: Match, probe: Probe) -> bytes:
    owner = OwnerStruct()
    owner.executable[:] = pack_path(probe.executable)
    owner.user.thread[: len(probe.thread)] = probe.thread.encode()
    owner.user.process[: len(probe.process)] = probe.process.encode()
    owner.user.uid = probe.uid
    ends = EndsStruct(
        local_port=probe.local_port, remote_port=probe.remote_port, protocol=PROTOCOLS["udp"]
    )
    ends.local[:] = pack_address(ip_address(probe.local))
    ends.remote[:] = pack_address(ip_address(probe.remote))
    whole = bytes(pack_match(match)) + bytes(owner) + bytes(ends)
    assert len(whole) == sum(map(len, (bytes(MatchStruct()), bytes(owner), bytes(ends))))
    return whole


def decided(matcher: Path, pairs: Sequence[tuple[Match, Probe]]) -> list[bool]:
    data = b"".join(packed(match, probe) for match, probe in pairs)
    said = subprocess.run([matcher], input=data, stdout=subprocess.PIPE, check=True).stdout
    return [letter == ord("1") for letter in said]


def test_a_thousand_pairs_decide_as_the_oracle(matcher: Path) -> None:
    pairs = [
        (match, probe)
        for one in rounds(SEED, FOLDER)
        for match in one.matches
        for probe in one.probes
    ]
    expected = [belongs(match, probe) for match, probe in pairs]
    assert len(pairs) == 1024
    assert 100 < sum(expected) < 924, "both answers are asked for"
    assert decided(matcher, pairs) == expected


V4 = Probe("/usr/bin/dig", "dig", "isc-net-0000", 1000, "10.10.0.1", 49152, "10.10.0.3", 53)
V6 = Probe("/usr/bin/dig", "dig", "dig", 0, "2001:db8::1", 49152, "2001:db8:1::3", 53)


@pytest.mark.parametrize(
    ("fields", "v4", "v6"),
    [
        ({}, True, True),
        ({"process": "dig"}, True, True),
        ({"process": "digg"}, False, False),
        ({"process": "di"}, False, False),
        ({"thread": "isc-net-0000"}, True, False),
        ({"uid": 0}, False, True),
        ({"uid": 1000}, True, False),
        ({"executable": "/usr/bin/dig"}, True, True),
        ({"executable": "/usr/bin/di"}, False, False),
        ({"executable": "/bin/dig"}, False, False),
        ({"remote_port": 53}, True, True),
        ({"remote_port": 54}, False, False),
        ({"remote_port": 50, "remote_port_last": 53}, True, True),
        ({"remote_port": 50, "remote_port_last": 52}, False, False),
        ({"local_port": 49152}, True, True),
        ({"remote": "10.10.0.3/32"}, True, False),
        ({"remote": "10.10.0.0/30"}, True, False),
        ({"remote": "10.10.0.4/30"}, False, False),
        ({"remote": "0.0.0.0/0"}, True, False),
        ({"remote": "::/0"}, True, True),
        ({"remote": "::ffff:0:0/96"}, True, False),
        ({"remote": "2001:db8::/32"}, False, True),
        ({"local": "10.10.0.0/31"}, True, False),
        ({"local": "2001:db8::1/128"}, False, True),
        ({"transport": "tcp"}, False, False),
    ],
)
def test_oracle_and_matcher_by_hand(
    matcher: Path, fields: dict[str, object], v4: bool, v6: bool
) -> None:
    match = Match.model_validate({"transport": "udp"} | fields)
    assert [belongs(match, V4), belongs(match, V6)] == [v4, v6]
    assert decided(matcher, [(match, V4), (match, V6)]) == [v4, v6]


def test_what_has_no_path_is_not_matched_by_one(matcher: Path) -> None:
    match = Match(transport="udp", executable="/usr/bin/dig")
    nobody = Probe("", "dig", "dig", 0, "10.0.0.1", 1024, "10.0.0.2", 53)
    assert decided(matcher, [(match, nobody)]) == [False]
