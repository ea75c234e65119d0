"""The policy of the network: no intent weakens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.durations import seconds, written
from controller.intent import Intent, Rotation, Security
from controller.policy import (
    EndpointRules,
    Policy,
    breaches,
    effective,
    endpoint_breach,
    strengthened,
)
from tests.unit.nco_kit import intent
from wire.manifest import load

MODULES = Path(__file__).parents[2] / "kernel_tap" / "modules"
MANIFESTS = {p.parent.name: load(p) for p in MODULES.glob("*/manifest.toml")}


def make(module: str = "dns_app_tag", **changes: Any) -> Intent:  # noqa: ANN401
    return Intent.model_validate(intent(module=module, **changes))


spans = st.none() | st.sampled_from([1.0, 60.0, 61.0, 3600.0])
securities = st.builds(
    Security, challenge_every=spans, on_failure=st.sampled_from(["revoke", "quarantine"])
)
rules = st.fixed_dictionaries({"every": spans, "keys": st.booleans(), "cut_off": st.booleans()})


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy.model_validate(
        {"security": draw(securities).model_dump(), "rotation": draw(rules)}
    )


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    rotation = draw(rules)
    if draw(st.booleans()):
        rotation["modules"] = ["dns_compress"]
    elif rotation["every"] is not None:
        rotation["keys"] = True
    return make(security=draw(securities).model_dump(), rotation=rotation)


def as_strict(mine: Security, other: Security) -> bool:
    often = other.challenge_every is None or (
        mine.challenge_every is not None and mine.challenge_every <= other.challenge_every
    )
    return often and (mine.on_failure, other.on_failure) != ("revoke", "quarantine")


def as_often(mine: Rotation, every: float | None, *, keys: bool, cut_off: bool) -> bool:
    often = every is None or (mine.every is not None and mine.every <= every)
    return often and mine.keys >= keys and mine.cut_off >= cut_off


@given(policies(), intents())
def test_what_is_carried_out_is_never_weaker_than_policy_or_intent(
    policy: Policy, wanted: Intent
) -> None:
    done = effective(policy, wanted)
    assert as_strict(done.security, policy.security)
    assert as_strict(done.security, wanted.security)
    for side in (policy.rotation, wanted.rotation):
        assert as_often(done.rotation, side.every, keys=side.keys, cut_off=side.cut_off)
    assert effective(policy, done) == done
    assert Intent.model_validate(done.model_dump(mode="json")) == done, "it is a whole intent"
    assert effective(Policy(), wanted) == wanted
    same = done.model_copy(update={"security": wanted.security, "rotation": wanted.rotation})
    assert same == wanted, "nothing else is changed"
    assert bool(strengthened(wanted, done)) == (done != wanted)


def test_what_a_policy_adds_is_said_in_words() -> None:
    policy = Policy.model_validate(
        {"security": {"challenge_every": "1m"}, "rotation": {"every": "1h30m"}}
    )
    assert strengthened(make(), effective(policy, make())) == [
        "challenged: every 1m instead of never",
        "rotated: every 1h30m instead of by hand",
        "new keys at rotation: yes instead of no",
    ]


@pytest.mark.parametrize(
    ("policy", "wanted", "words"),
    [
        (
            {"modules": {"allowed": ["dns_compress"]}},
            make(),
            "allows the modules dns_compress: not",
        ),
        ({"modules": {"allowed": []}}, make(), "allows the modules none"),
        ({"modules": {"lossy": False}}, make("dns_compress"), "no module that loses bytes"),
        (
            {"modules": {"lossy": False}},
            make(rotation={"modules": ["dns_compress"]}),
            "dns_compress does",
        ),
        (
            {"parameters": {"stream_tag": {"interval": {"min": 500, "max": 2000}}}},
            make("stream_tag", parameters={"interval": 100}),
            "interval = 500..2000 bytes for stream_tag: not 100",
        ),
        (
            {"parameters": {"stream_tag": {"interval": {"min": 2000}}}},
            make("stream_tag"),
            "interval = 2000..65280 bytes for stream_tag: not 1000",
        ),
    ],
)
def test_what_contradicts_is_answered_with_the_policys_sentence(
    policy: dict[str, Any], wanted: Intent, words: str
) -> None:
    (sentence,) = breaches(Policy.model_validate(policy), wanted, MANIFESTS)
    assert words in sentence
    assert breaches(Policy(), wanted, MANIFESTS) == []


def test_the_manifests_own_bounds_are_not_the_policys() -> None:
    policy = Policy.model_validate({"parameters": {"stream_tag": {"tag": {"max": 9}}}})
    assert breaches(policy, make("stream_tag", parameters={"interval": 0}), MANIFESTS) == []


@pytest.mark.parametrize(
    ("rules", "is_kept_off"),
    [
        ({}, False),
        ({"deny": ["h1"]}, True),
        ({"deny": ["site=B"]}, True),
        ({"deny": ["10.2.0.0/16"]}, True),
        ({"deny": ["2001:db8::/32", "h2", "site=A"]}, False),
        ({"allow": []}, True),
        ({"allow": ["h2"]}, True),
        ({"allow": ["h2", "site=B"]}, False),
        ({"allow": ["h1"], "deny": ["site=B"]}, True),
    ],
)
def test_who_may_be_an_endpoint(rules: dict[str, Any], is_kept_off: bool) -> None:
    found = endpoint_breach(
        EndpointRules.model_validate(rules), "h1", {"site=B"}, ("10.2.0.1", "fd00::1")
    )
    assert bool(found) == is_kept_off


@pytest.mark.parametrize(
    "said",
    [
        {"unknown": 1},
        {"endpoints": {"deny": ["Not A Host"]}},
        {"endpoints": {"deny": ["10.0.0.1/8"]}},
        {"endpoints": {"allow": ["site="]}},
        {"parameters": {"stream_tag": {"interval": {"min": 2, "max": 1}}}},
        {"security": {"challenge_every": "0s"}},
        {"rotation": {"every": "never"}},
        {"modules": {"allowed": ["Bad-Name"]}},
    ],
)
def test_bad_policies_do_not_pass(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(said)


@given(st.integers(1, 366 * 86400))
def test_spans_of_time_are_read_as_they_are_written(span: int) -> None:
    assert seconds(written(float(span))) == span


@pytest.mark.parametrize("text", ["", "5", "1y", "-1s", "1h-30m", "s", "1,5s"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 90s"):
        seconds(text)
