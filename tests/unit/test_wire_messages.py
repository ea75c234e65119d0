"""Messages: what comes back is what was sent; whatever else comes is refused or ignored."""

import typing
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from wire.frames import FrameReader, encode
from wire.match import Match
from wire.messages import (
    FROM_AGENT,
    FROM_NCO,
    ArtifactData,
    Counters,
    Customization,
    Desired,
    Heartbeat,
    Hello,
    Holds,
    Message,
    MessageError,
    Need,
    Refused,
    RenewNow,
    Report,
    Status,
    Welcome,
    dump,
    parse,
)

text = st.text(max_size=20)
maybe_text = st.none() | text
number = st.integers(0, 2**63 - 1)
host = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
module = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
digest = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
identity = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
target = st.sampled_from(["bpf", "kmod", "user"])
comm = st.none() | st.from_regex(r"[\x21-\x7e]{1,15}", fullmatch=True)
port = st.none() | st.integers(1, 65535)
prefix = st.none() | st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
prefix |= st.builds(
    lambda address, length: IPv6Network((address, length), strict=False),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)
match = st.builds(
    Match,
    transport=st.sampled_from(["udp", "tcp"]),
    thread=comm,
    process=comm,
    executable=st.none() | st.from_regex(r"/[a-z/]{0,40}", fullmatch=True),
    uid=st.none() | st.integers(0, 2**32 - 2),
    local=prefix,
    local_port=port,
    remote=prefix,
    remote_port=st.just(1000),
    remote_port_last=st.none() | st.integers(1000, 65535),
)
customization = st.builds(
    Customization,
    id=identity,
    intent=text,
    module=module,
    digest=digest,
    target=target,
    match=match,
    priority=st.integers(0, 65535),
    parameters=st.binary(max_size=64),
    receive=st.booleans(),
    send=st.booleans(),
    active=st.booleans(),
    deprecated=st.booleans(),
    epoch=st.integers(0, 65535),
    token=st.just(b"") | st.binary(min_size=8, max_size=8),
    key=st.just(b"") | st.binary(min_size=32, max_size=32),
)
counters = st.builds(Counters, **dict.fromkeys(Counters.model_fields, number))
status = st.builds(
    Status,
    id=identity,
    module=module,
    digest=digest,
    receive=st.booleans(),
    send=st.booleans(),
    error=maybe_text,
    counters=counters,
)
from_agent = (
    st.builds(
        Hello,
        versions=st.lists(st.integers(0, 9), max_size=16),
        host=host,
        boot_id=text,
        kernel=text,
        tap=maybe_text,
        tap_error=maybe_text,
        targets=st.lists(target, max_size=8),
        addresses=st.lists(text, max_size=4),
        generation=number,
    )
    | st.builds(Need, digests=st.lists(digest, max_size=3))
    | st.builds(
        Report,
        generation=number,
        refused=st.none() | number,
        error=maybe_text,
        customizations=st.lists(status, max_size=2),
    )
    | st.builds(Heartbeat, generation=number)
    | st.builds(Holds, authorities=st.lists(digest, max_size=8), issuer=st.none() | digest)
)
from_nco = (
    st.builds(Welcome, version=st.integers(0, 99), heartbeat=st.floats(0.1, 3600))
    | st.builds(Refused, reason=text)
    | st.builds(RenewNow)
    | st.builds(Desired, generation=number, customizations=st.lists(customization, max_size=2))
    | st.builds(
        ArtifactData,
        digest=digest,
        name=module,
        version=text,
        target=target,
        signature=st.binary(min_size=64, max_size=64),
        data=st.binary(min_size=1, max_size=100),
    )
)

FIELDS = sorted(
    {
        field
        for message in (
            *(Hello, Need, Report, Heartbeat, Holds),
            *(Welcome, Refused, Desired, ArtifactData),
        )
        for field in message.model_fields
    }
    - {"type"}
)
TYPES = [
    *("hello", "need", "report", "heartbeat", "flows", "challenge_answer", "renew", "holds"),
    *("welcome", "refused", "desired", "artifact", "challenge", "renewed", "renew_now"),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | text | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text | st.binary() | st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)
customization_like = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys([*Customization.model_fields, *Status.model_fields], anything),
        "match": st.fixed_dictionaries({}, optional=dict.fromkeys(Match.model_fields, anything)),
    },
)
message_like = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional=dict.fromkeys(FIELDS, anything) | {"customizations": st.lists(customization_like)},
)
adapters = st.sampled_from([FROM_AGENT, FROM_NCO])


def over_the_wire(value: object) -> Any:  # noqa: ANN401 - whatever was sent
    (received,) = FrameReader().feed(encode(value))
    return received


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(from_agent)
def test_agent_messages_come_back_as_sent(message: Message) -> None:
    assert parse(FROM_AGENT, over_the_wire(dump(message))) == message


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(from_nco)
def test_nco_messages_come_back_as_sent(message: Message) -> None:
    assert parse(FROM_NCO, over_the_wire(dump(message))) == message


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(adapters, anything | message_like)
def test_any_value_is_a_message_or_none_or_refused(
    adapter: TypeAdapter[Any], value: object
) -> None:
    try:
        message = parse(adapter, over_the_wire(value))
    except MessageError:
        return
    assert message is None or isinstance(message, Message)


@given(from_nco, st.dictionaries(st.text(min_size=30), anything, max_size=3))
def test_unknown_fields_are_ignored(message: Message, more: dict[str, Any]) -> None:
    assert parse(FROM_NCO, over_the_wire(more | dump(message))) == message


@pytest.mark.parametrize("adapter", [FROM_AGENT, FROM_NCO])
def test_unknown_types_are_ignored(adapter: TypeAdapter[Any]) -> None:
    assert parse(adapter, {"type": "from-the-future", "generation": "what?"}) is None


def test_a_message_of_the_other_side_is_unknown() -> None:
    assert parse(FROM_NCO, dump(Heartbeat(generation=1))) is None
    assert parse(FROM_AGENT, dump(Desired(generation=1, customizations=[]))) is None


@pytest.mark.parametrize("value", [None, 7, b"", [], {}, {"type": 3}, {b"type": "hello"}])
def test_what_is_no_message_is_refused(value: object) -> None:
    with pytest.raises(MessageError, match="not a map with a type"):
        parse(FROM_AGENT, value)


GOOD = dump(
    Desired(
        generation=3,
        customizations=[
            Customization(
                id="0" * 32,
                intent="tag",
                module="dns_app_tag",
                digest="a" * 64,
                target="bpf",
                match=Match(transport="udp", process="dig", remote_port=53),
                receive=True,
                send=False,
            )
        ],
    )
)


def altered(**changes: object) -> dict[str, Any]:
    """Return a good Desired with some fields of its customization changed."""
    return GOOD | {"customizations": [GOOD["customizations"][0] | changes]}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (GOOD | {"generation": -1}, "generation"),
        (GOOD | {"generation": 2**63}, "generation"),
        (GOOD | {"customizations": GOOD["customizations"] * 17}, "customizations"),
        (altered(module="../../etc"), "module"),
        (altered(module="dns_app_tag\n"), "module"),
        (altered(digest="a" * 63), "digest"),
        (altered(digest="a" * 64 + "\n"), "digest"),
        (altered(target="vmlinux"), "target"),
        (altered(parameters=b"x" * 65), "parameters"),
        (altered(priority=2**20), "priority"),
        (altered(receive="perhaps"), "receive"),
        (altered(match={"transport": "udp", "port": 53}), "match.port"),
        (altered(match={"transport": "udp", "process": "x" * 16}), "match.process"),
        (altered(match={"transport": "udp", "remote": "10.0.0.1/8"}), "match.remote"),
        (altered(match={"transport": "udp", "remote": "::/129"}), "match.remote"),
    ],
)
def test_a_bad_field_is_refused_with_its_place(value: object, place: str) -> None:
    with pytest.raises(MessageError, match=place):
        parse(FROM_NCO, value)


@pytest.mark.parametrize("count", [-1, 2**63])
def test_a_counter_that_no_database_holds_is_refused(count: int) -> None:
    status = {"id": "0" * 32, "module": "m", "digest": "a" * 64, "receive": True, "send": True}
    status["counters"] = {"sent": count}
    with pytest.raises(MessageError, match=r"counters\.sent"):
        parse(FROM_AGENT, {"type": "report", "generation": 1, "customizations": [status]})


def test_all_message_types_are_known_to_exactly_one_side() -> None:
    def types(adapter: TypeAdapter[Any]) -> set[str]:
        union = typing.get_args(adapter._type)[0]
        return {kind.model_fields["type"].default for kind in typing.get_args(union)}

    assert types(FROM_AGENT) | types(FROM_NCO) == set(TYPES)
    assert not types(FROM_AGENT) & types(FROM_NCO)
