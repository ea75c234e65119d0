"""Matches: what they may say, and what stands in a message of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from wire.match import Match
from wire.messages import Customization, dump


@pytest.mark.parametrize(
    "fields",
    [
        {"uid": -1},
        {"uid": 2**32 - 1},
        {"executable": "curl"},
        {"executable": ""},
        {"executable": "/bin/a\0b"},
        {"executable": "/" + "ä" * 128},
        {"local_port_last": 9},
        {"remote_port": 9, "remote_port_last": 8},
        {"remote": "10.0.0.1/8"},
        {"remote": "fe80::/129"},
    ],
)
def test_what_no_socket_can_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Match(transport="tcp", **fields)


def test_ranges_of_ports() -> None:
    match = Match(transport="tcp", local_port=80, remote_port=1000, remote_port_last=1002)
    assert list(match.local_ports) == [80]
    assert list(match.remote_ports) == [1000, 1001, 1002]
    assert Match(transport="tcp").local_ports == range(65536)


def test_only_what_is_asked_for_is_said() -> None:
    match = Match(transport="udp", remote="2001:db8::/32", uid=0)
    assert dump(match) == {"transport": "udp", "remote": "2001:db8::/32", "uid": 0}
    assert match.model_dump(mode="json") == dump(match)
    assert Match.model_validate(dump(match)) == match


@pytest.mark.parametrize("secret", [{"token": b"7 bytes"}, {"key": b"31 bytes" * 3}])
def test_half_a_secret_is_refused(secret: dict[str, bytes]) -> None:
    with pytest.raises(ValidationError, match="bytes, or none"):
        customization(**secret)


def test_secrets_are_not_shown() -> None:
    shown = repr(customization(token=b"8 secret", key=b"secret32" * 4))
    assert "secret" not in shown


def customization(**secrets: bytes) -> Customization:
    return Customization(
        id="0" * 32,
        intent="tag",
        module="idle",
        digest="0" * 64,
        target="kmod",
        match=Match(transport="tcp"),
        receive=True,
        send=True,
        **secrets,
    )
