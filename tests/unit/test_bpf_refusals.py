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
        ({"target": "kmod"}, "its artifact is for 'kmod', not for bpf"),
    ],
)
def test_what_it_has_not_is_named(changes: dict[str, Any], words: str) -> None:
    if match := changes.get("match"):
        changes = {"match": Match.model_validate(match)}
    with pytest.raises(TapError, match=words):
        _check_set([ONE.model_copy(update=changes)])


def test_what_it_has_it_takes() -> None:
    match = Match(
        transport="udp",
        process="dig",
        executable="/usr/bin/dig",
        uid=0,
        local="10.0.0.0/8",
        remote="2001:db8::/32",
        remote_port=53,
        remote_port_last=54,
    )
    _check_set([ONE.model_copy(update={"match": match, "active": False, "deprecated": True})])
