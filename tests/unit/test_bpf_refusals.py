"""What the eBPF tap cannot do, it says before it touches a map."""

from __future__ import annotations

from typing import Any

import pytest

from host_agent.bpf_tap import _check_set
from host_agent.tap import TapError
from tests.unit.agent_kit import customization
from wire.artifact import Artifact
from wire.match import Match

ONE = customization(Artifact("dns_app_tag", "1.0.0", "bpf", b"code").message(b"\0" * 64))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"match": {"transport": "tcp"}}, "no tcp"),
        ({"match": {"transport": "udp", "uid": 0}}, "no match by uid"),
        ({"match": {"transport": "udp", "executable": "/bin/dig"}}, "no match by executable"),
        ({"match": {"transport": "udp", "remote": "2001:db8::/64"}}, "no match by IPv6 address"),
        (
            {"match": {"transport": "udp", "local_port": 5, "local_port_last": 6}},
            "no ranges of ports",
        ),
        ({"active": False}, "no inactive customizations"),
        ({"deprecated": True}, "no deprecated customizations"),
        ({"target": "kmod"}, "its artifact is for 'kmod', not for bpf"),
    ],
)
def test_what_it_has_not_is_named(changes: dict[str, Any], words: str) -> None:
    if match := changes.get("match"):
        changes = {"match": Match.model_validate(match)}
    with pytest.raises(TapError, match=words):
        _check_set([ONE.model_copy(update=changes)])


def test_what_it_has_it_takes() -> None:
    match = Match(transport="udp", process="dig", local="10.0.0.0/8", remote_port=53)
    _check_set([ONE.model_copy(update={"match": match})])
