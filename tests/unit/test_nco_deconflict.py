"""Whether intents get on, and the example of a flow where they do not."""

from __future__ import annotations

import uuid
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.deconflict import Example, check_flows, constant_bytes, example
from controller.errors import Conflict
from controller.intent import Intent
from controller.plan import HostFacts, Plan, make_plan
from tests.unit.nco_kit import intent, make_module
from wire.manifest import Manifest, load
from wire.match import Match

MODULES = Path(__file__).parents[2] / "kernel_tap" / "modules"
HOSTS = {
    "h1": HostFacts("h1", ("10.10.0.1",), ("bpf", "kmod"), kernel="6.1.0"),
    "dns": HostFacts("dns", ("10.10.0.3",), ("bpf", "kmod"), kernel="6.1.0"),
}
ADDRESSES = {name: facts.addresses for name, facts in HOSTS.items()}


def manifest_of(name: str) -> Manifest:
    return load(MODULES / name / "manifest.toml")


def planned(name: str, module: str, epoch: int = 0, **changes: Any) -> Plan:  # noqa: ANN401
    said = Intent.model_validate(intent(name, module=module, **changes))
    return make_plan(said, manifest_of(module), HOSTS, uuid.uuid4(), epoch=epoch)


def check(one: Plan, other: Plan) -> None:
    check_flows(one, other.customizations, manifest_of, ADDRESSES)


def test_intents_on_one_flow_need_an_order() -> None:
    mine, theirs = planned("mine", "dns_app_tag"), planned("theirs", "dns_compress")
    with pytest.raises(Conflict, match=r"'mine' and 'theirs'.*host dns") as refused:
        check(mine, theirs)
    assert "for example, udp 10.10.0.3:53 -> 192.0.2.2:50000 of process dnsmasq" in str(
        refused.value
    )
    check(planned("mine", "dns_app_tag", priority=5), theirs)


def test_intents_on_different_flows_need_none() -> None:
    theirs = planned("theirs", "dns_compress")
    apart = {"client": [{"host": "h1", "process": "curl"}],
             "server": [{"host": "h1", "process": "unbound"}]}  # fmt: skip
    check(planned("mine", "dns_app_tag", **apart), theirs)
    check(planned("mine", "dns_app_tag", port=5353), theirs)


def test_one_wire_form_twice_on_a_flow_is_refused_even_in_order() -> None:
    mine = planned("mine", "dns_app_tag", priority=5)
    with pytest.raises(Conflict, match=r"host h1 .*dns_app_tag of 'mine'.*dns_app_tag of 'their"):
        check(mine, planned("theirs", "dns_app_tag"))
    check(mine, planned("theirs", "dns_app_tag", client=[{"host": "h1", "process": "curl"}]))


def test_a_server_may_be_shared_by_intents_that_it_understands_alike() -> None:
    other_client = {"client": [{"host": "h1", "process": "curl"}]}
    mine = planned("mine", "dns_app_tag")
    check(mine, planned("theirs", "dns_app_tag", **other_client))
    with pytest.raises(Conflict, match="host dns"):
        check(mine, planned("theirs", "dns_compress", **other_client))
    check(mine, planned("theirs", "dns_compress", **other_client, priority=7))


def test_streams_are_told_apart_by_signature_and_epoch() -> None:
    mine = planned("mine", "stream_tag", epoch=1, port=80, priority=5)
    check(mine, planned("theirs", "stream_tag", epoch=2, port=80))
    check(mine, planned("theirs", "stream_xor", epoch=1, port=80))
    with pytest.raises(Conflict, match="stream_tag of 'mine'"):
        check(mine, planned("theirs", "stream_tag", epoch=1, port=80))


def test_deployments_of_one_intent_follow_each_other() -> None:
    check(planned("mine", "dns_app_tag"), planned("mine", "dns_compress"))


def test_constants_at_fixed_places(tmp_path: Path) -> None:
    assert constant_bytes(manifest_of("dns_app_tag")) == dict(enumerate(b"XTAG"))
    assert constant_bytes(manifest_of("rate_limit")) == {}
    make_module(tmp_path, "late", extra="")
    path = tmp_path / "late" / "manifest.toml"
    path.write_text(
        path.read_text()
        + '[[wire.field]]\nname = "n"\nlabel = "N"\ntype = "dns_name"\n'
        + '[[wire.field]]\nname = "m"\nlabel = "M"\ntype = "u16"\nvalue = 7\n'
    )
    assert constant_bytes(load(path)) == dict(enumerate(b"XTAG"))


# -- examples, against the definition of a match

PREFIXES = ["10.0.0.0/24", "10.0.0.1/32", "10.0.1.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0",
            "2001:db8::7/128", "10.0.0.0/31"]  # fmt: skip
SOME = {
    "transport": ["udp", "tcp"],
    "thread": ["a", "b", "any"],
    "process": ["a", "b", "c"],
    "executable": ["/bin/a", "/bin/b"],
    "uid": [0, 1000],
    "ports": [(1, None), (1, 5), (4, 9), (53, None), (40000, 50000)],
    "prefix": PREFIXES,
}


@st.composite
def matches(draw: st.DrawFn) -> Match:
    said: dict[str, Any] = {"transport": draw(st.sampled_from(SOME["transport"]))}
    for name in ("thread", "process", "executable", "uid"):
        value = draw(st.none() | st.sampled_from(SOME[name]))
        said |= {} if value is None else {name: value}
    for side in ("local", "remote"):
        prefix = draw(st.none() | st.sampled_from(PREFIXES))
        ports = draw(st.none() | st.sampled_from(SOME["ports"]))
        said |= {} if prefix is None else {side: prefix}
        said |= {} if ports is None else {f"{side}_port": ports[0], f"{side}_port_last": ports[1]}
    return Match.model_validate(said)


def matched(match: Match, flow: Example) -> bool:
    """Whether a match takes a flow, as wire/match.py defines it."""
    for name in ("transport", "thread", "process", "executable", "uid"):
        wanted = getattr(match, name)
        if wanted is not None and wanted != getattr(flow, name):
            return False
    if flow.local_port not in match.local_ports or flow.remote_port not in match.remote_ports:
        return False
    for prefix, address in ((match.local, flow.local), (match.remote, flow.remote)):
        if prefix is not None and ip_address(address) not in ip_network(prefix):
            return False
    return True


def random_flow(random: Random) -> Example:
    """A flow from the values of SOME, so that matches are often met."""
    version = random.choice([4, 6])
    pool = ["10.0.0.1", "10.0.0.200", "10.0.1.3"] if version == 4 else ["2001:db8::7", "fd00::1"]
    return Example(
        transport=random.choice(["udp", "tcp"]),
        local=random.choice(pool),
        local_port=random.choice([1, 4, 5, 9, 53, 45000]),
        remote=random.choice(pool),
        remote_port=random.choice([1, 4, 5, 9, 53, 45000]),
        thread=random.choice(SOME["thread"]),
        process=random.choice(SOME["process"]),
        executable=random.choice(SOME["executable"]),
        uid=random.choice(SOME["uid"]),
    )


@given(matches(), matches(), st.sampled_from([(), ("10.0.0.9",), ("10.0.0.1", "2001:db8::7")]),
       st.integers(0, 2**32))  # fmt: skip
def test_an_example_is_matched_by_both_and_where_there_is_none_no_flow_is(
    one: Match, other: Match, addresses: tuple[str, ...], seed: int
) -> None:
    flow = example(one, other, addresses)
    if flow is not None:
        assert matched(one, flow)
        assert matched(other, flow)
        assert ip_address(flow.local).version == ip_address(flow.remote).version
        return
    random = Random(seed)  # noqa: S311 - only to sample
    for _ in range(200):
        sample = random_flow(random)
        assert not (matched(one, sample) and matched(other, sample))


def test_an_example_is_on_the_host_where_it_can_be() -> None:
    anything = Match(transport="udp")
    flow = example(anything, Match(transport="udp", process="dig", uid=7), ("10.9.8.7",))
    assert flow is not None
    assert (flow.local, flow.process, flow.uid) == ("10.9.8.7", "dig", 7)
    six = Match(transport="udp", remote="2001:db8::/32")
    flow = example(anything, six, ("10.9.8.7", "2001:db8::9"))
    assert flow is not None
    assert flow.local == "2001:db8::9"
    assert str(flow).startswith("udp [2001:db8::9]:40000 -> [2001:db8::1]:50000")


def test_no_flow_has_addresses_of_two_families() -> None:
    four, six = (Match(transport="udp", local=p) for p in ("10.0.0.0/8", "::/0"))
    assert example(four, six) is None
    assert example(four, Match(transport="udp", remote="::/0")) is None
