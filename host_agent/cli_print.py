"""How the `dca` command prints what taps hold."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic import TypeAdapter
from rich.table import Column, Table
from rich.text import Text

from host_agent.tap import TapStatus
from wire.messages import Flow, Status


def summary(name: str, whole: TapStatus) -> str:
    """Return what a tap that is loaded holds, as one line."""
    where = f" in {whole.namespaces} network namespaces" if whole.namespaces is not None else ""
    return (
        f"The {name} tap is loaded: {whole.customizations} customizations{where}; "
        f"modules: {', '.join(whole.modules) or 'none'}"
    )


def customizations(statuses: Sequence[Status]) -> Table:
    """Return the customizations of a network namespace."""
    table = _table("CUSTOMIZATION", "MODULE", "ACTS ON", "FLOWS", "SENT", "RECEIVED")
    for one in statuses:
        counted = str(one.counters.sent), str(one.counters.received)
        flows = "-" if one.flows is None else str(one.flows)
        table.add_row(one.id, one.module, _acts_on(one), flows, *counted)
    return table


def as_json(value: object) -> None:
    """Print what a program is to read."""
    kind: TypeAdapter[object] = TypeAdapter(object)
    sys.stdout.write(kind.dump_json(value, indent=2).decode() + "\n")


def _acts_on(one: Status) -> str:
    ways = [way for way, on in (("receive", one.receive), ("send", one.send)) if on]
    words = ", ".join(ways) or "nothing"
    words = words if one.active else f"nothing (inactive; {words})"
    return f"{words}, no new flows" if one.deprecated else words


def flows(each: Sequence[Flow]) -> Table:
    """Return the sockets that have customizations."""
    table = _table("FLOW", "LOCAL", "REMOTE", "PROCESS", "UID", "STATE", "SENT", "RECEIVED")
    for flow in each:
        counts = [one.counters for one in flow.customizations]
        table.add_row(
            f"{flow.transport} {flow.number}",
            _end(flow.local, flow.local_port),
            _end(flow.remote, flow.remote_port) if flow.remote else "-",
            _safe(f"{flow.process} ({flow.thread} {flow.pid})"),
            str(flow.uid),
            flow.state or "-",
            str(sum(one.sent for one in counts)),
            str(sum(one.received for one in counts)),
        )
    return table


def _table(*titles: str) -> Table:
    """Return a table without rows, as `nco` has them."""
    return Table(
        *(Column(title, overflow="fold") for title in titles),
        box=None,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )


def _end(address: str, port: int | None) -> str:
    shown = f"[{address}]" if ":" in address else address
    return shown if port is None else f"{shown}:{port}"


def _safe(text: str) -> Text:
    """Return text that does not control the terminal: anybody here may name a process."""
    return Text("".join(char if char.isprintable() else "?" for char in text))
