"""Whatever hosts, labels, taps and policies there are: what a plan must never do."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import Refusal
from controller.facts import HostFacts
from controller.intent import Intent
from controller.plan import Plan, make_plan
from controller.plan_checks import changes
from controller.policy import Policy, endpoint_breach
from wire.manifest import Manifest, load
from wire.match import Match
from wire.messages import Target

MODULES = Path(__file__).parents[2] / "kernel_tap" / "modules"
MANIFESTS = [load(MODULES / name / "manifest.toml") for name in ("dns_app_tag", "stream_tag")]
TAPS: list[tuple[Target, ...]] = [(), ("bpf",), ("kmod",), ("kmod", "bpf")]
NAMES = ["a", "b", "c", "d"]
LABELS = ["site=A", "site=B"]
PREFIXES = ["10.0.0.0/31", "10.0.0.0/8", "fd00::/126", "10.9.0.0/16"]


@st.composite
def networks(draw: st.DrawFn) -> dict[str, HostFacts]:
    hosts = {}
    for number, name in enumerate(NAMES, start=1):
        both = (f"10.0.0.{number}", f"fd00::{number}")
        addresses = draw(st.sampled_from([both, both[:1], both[1:]]))
        labels = draw(st.frozensets(st.sampled_from(LABELS)))
        hosts[name] = HostFacts(
            name, addresses, draw(st.sampled_from(TAPS)), kernel="6.1.0", labels=labels
        )
    return hosts


places = st.one_of(
    st.sampled_from(NAMES).map(lambda name: {"host": name}),
    st.sampled_from(LABELS).map(lambda label: {"label": label}),
    st.sampled_from(PREFIXES).map(lambda prefix: {"prefix": prefix}),
)


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    ends = st.lists(places, min_size=1, max_size=3, unique_by=str)
    return Intent.model_validate(
        {
            "name": "any",
            "module": "any",
            "client": draw(ends),
            "server": draw(ends),
            "port": 53,
            "no_tap": draw(st.sampled_from(["skip", "refuse"])),
        }
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    some = st.lists(st.sampled_from([*NAMES, *LABELS, *PREFIXES]), max_size=2)
    rules: dict[str, Any] = {"deny": draw(some), "allow": draw(st.none() | some)}
    return Policy.model_validate({"endpoints": rules})


@pytest.fixture(autouse=True, scope="module")
def bpf_matches_all() -> Any:  # noqa: ANN401
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Match, "beyond_bpf", None)
        yield


def check(plan: Plan, hosts: dict[str, HostFacts], policy: Policy) -> None:
    servers = {item.host for item in plan.customizations if item.receives and item.side == "server"}
    understood = {address for name in servers for address in hosts[name].addresses}
    for item in plan.customizations:
        facts = hosts[item.host]
        assert item.target in facts.targets, "it runs where a tap runs it"
        assert endpoint_breach(policy.endpoints, item.host, facts.labels, facts.addresses) is None
        if item.side == "client":
            assert item.match.remote is not None
            assert str(item.match.remote[0]) in understood, "nobody sends what is not understood"
            assert item.match.remote.num_addresses == 1
    left_out = {(one.host, one.side) for one in plan.skipped}
    assert left_out.isdisjoint({(item.host, item.side) for item in plan.customizations})
    assert len({item.id for item in plan.customizations}) == len(plan.customizations)


@given(networks(), intents(), policies(), st.sampled_from(MANIFESTS), st.booleans())
def test_a_plan_is_safe(
    hosts: dict[str, HostFacts],
    wanted: Intent,
    policy: Policy,
    manifest: Manifest,
    running: bool,
) -> None:
    try:
        plan = make_plan(wanted, manifest, hosts, uuid.uuid4(), policy=policy, running=running)
    except Refusal:
        return
    check(plan, hosts, policy)


@given(networks(), networks(), intents(), st.sampled_from(MANIFESTS))
def test_what_a_changed_network_adds_and_takes_away_makes_the_new_plan(
    before: dict[str, HostFacts],
    after: dict[str, HostFacts],
    wanted: Intent,
    manifest: Manifest,
) -> None:
    try:
        old = make_plan(wanted, manifest, before, uuid.uuid4(), running=True)
        new = make_plan(wanted, manifest, after, uuid.uuid4(), running=True)
    except Refusal:
        return
    change = changes(old.customizations, new)
    result = {(one.host, one.side, one.match) for one in (*change.kept, *change.added)}
    assert result == {(one.host, one.side, one.match) for one in new.customizations}
    assert {one.id for one in change.removed} <= {one.id for one in old.customizations}
    assert set(change.kept) | set(change.removed) == set(old.customizations)
