"""What `dca` prints of what others on the host have named."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from host_agent import cli_print
from wire.messages import Flow


@pytest.mark.parametrize("name", ["[/red]", "[red]x", "a\x1b[2Jb\n", "dig"])
def test_a_process_can_have_any_name(name: str) -> None:
    flow = Flow(
        number=7, transport="udp", local="::1", local_port=53, process=name, thread=name, pid=1
    )
    printed = io.StringIO()
    Console(file=printed, width=200).print(cli_print.flows([flow]))
    assert "\x1b" not in printed.getvalue()
    assert name.replace("\x1b", "?").replace("\n", "?") in printed.getvalue()
