"""How the `nco` command prints what was monitored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controller.cli_print import line, table
from controller.monitor_api import AlertView, EventRecord, FlowView, SampleView
from controller.monitor_kinds import Kind

STYLES = {Kind.ALERT: "red", Kind.AUDIT: "cyan", Kind.HOST: "yellow"}


def moment(at: float | None) -> str:
    """Return a Unix time as local time, down to milliseconds."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at).isoformat(" ", "milliseconds")


def print_event(event: EventRecord) -> None:
    """Print an event as a line."""
    who = event.intent or "-"
    style = STYLES.get(event.kind, "")
    line(
        f"{moment(event.at)}  {event.kind:<6}  {who:<12}  {event.phase or '-':<9}  "
        f"{event.host or '-':<12}  {event.text}",
        style,
    )


def print_events(events: Sequence[EventRecord]) -> None:
    """Print events, each as a line."""
    for event in events:
        print_event(event)
    if not events:
        line("nothing has happened")


def print_flows(flows: Sequence[FlowView], now: float) -> None:
    """Print flows."""
    if not flows:
        line("no flow with customizations was told of")
    table(
        ("HOST", "FLOW", "PROCESS", "UID", "INTENT", "SENT", "RECEIVED", "PASSED", "SEEN", "STATE"),
        (
            (
                flow.host,
                f"{flow.transport} {_end(flow.local, flow.local_port)} -> "
                f"{_end(flow.remote, flow.remote_port)}",
                _process(flow),
                "-" if flow.uid is None else flow.uid,
                ", ".join(flow.intents) or "-",
                sum(one.counters.sent for one in flow.customizations),
                sum(one.counters.received for one in flow.customizations),
                sum(one.counters.passed for one in flow.customizations),
                f"{max(0.0, now - flow.seen):.0f} s ago",
                flow.state or ("open" if flow.ended is None else "ended"),
            )
            for flow in flows
        ),
    )


def print_samples(samples: Sequence[SampleView]) -> None:
    """Print samples of counters: what was counted since the customization was created."""
    if not samples:
        line("nothing was counted in this time")
    table(
        ("TIME", "HOST", "MODULE", "CUSTOMIZATION", "FLOWS", "COUNTED"),
        (
            (
                moment(sample.at),
                sample.host,
                sample.module,
                sample.customization[:12],
                "-" if sample.flows is None else sample.flows,
                ", ".join(f"{k} {v}" for k, v in sample.counters.model_dump().items() if v) or "-",
            )
            for sample in samples
        ),
    )


def print_alerts(alerts: Sequence[AlertView]) -> None:
    """Print alerts."""
    if not alerts:
        line("no alert is raised", "green")
    table(
        ("NUMBER", "RAISED", "CLEARED", "KIND", "ABOUT", "TEXT"),
        ((a.id, moment(a.raised), moment(a.cleared), a.kind, a.subject, a.text) for a in alerts),
    )


def _end(address: str | None, port: int | None) -> str:
    if address is None:
        return "?"
    shown = f"[{address}]" if ":" in address else address
    return shown if port is None else f"{shown}:{port}"


def _process(flow: FlowView) -> str:
    name = flow.process or "?"
    thread = f" thread {flow.thread}" if flow.thread and flow.thread != flow.process else ""
    pid = flow.tgid if flow.tgid is not None else flow.pid
    return f"{name}{thread} ({'?' if pid is None else pid})"
