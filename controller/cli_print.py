"""How the `nco` command prints: aligned plain lines, coloured on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.api import (
    CustomizationView,
    DeploymentView,
    EventView,
    HostView,
    IntentHostView,
    IntentView,
    MirrorView,
    ModuleView,
    PlanView,
    StatusView,
)
from controller.endpoints import socket_text
from controller.intent import Client, Server
from controller.phases import Phase
from wire.match import Match, Prefix

STYLES = {Phase.ACTIVE: "green", Phase.FAILED: "red", Phase.GONE: "green"}
WIDE = 200
"""Columns when the output is not a terminal."""

console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, emoji=False)


def line(text: str, style: str = "") -> None:
    """Print one line as it is, however long."""
    console.print(_cell(text, style), soft_wrap=True)


def cut_line(text: str) -> None:
    """Print one line, cut at the width of the terminal."""
    cell = _cell(text)
    cell.truncate(console.width, overflow="ellipsis")
    console.print(cell, soft_wrap=True)


def fault(text: str) -> None:
    """Print why the command could not do what was asked."""
    Console(stderr=True, highlight=False, emoji=False).print(_cell(text, "red"), soft_wrap=True)


def note(text: str) -> None:
    """Print a remark beside what is printed: on standard error, so that the rest can be piped."""
    Console(stderr=True, highlight=False, emoji=False).print(_cell(text, ""), soft_wrap=True)


def print_json(value: BaseModel | Sequence[BaseModel], indent: int | None = 2) -> None:
    """Print what the service answered."""
    kind: TypeAdapter[object] = TypeAdapter(object)
    sys.stdout.write(kind.dump_json(value, indent=indent).decode() + "\n")
    sys.stdout.flush()


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under titles; nothing where there are none."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        grid.add_column(title, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(str(cell)) for cell in row))
    if grid.row_count:
        console.print(grid)


def print_status(status: StatusView) -> None:
    """Print the state of the service."""
    switches = ", ".join(f"s{dpid}" for dpid in status.switches) or "none"
    line(f"service    runs, process {status.pid}")
    line(f"control    {status.control}, listening on {status.listen}")
    line(f"enrolment  on port {status.enrol_port}")
    line(f"hosts      {status.hosts_connected} of {status.hosts} connected")
    line(f"intents    {status.intents}")
    line(f"switches   {switches if status.application_connected else 'no Ryu application'}")


def print_hosts(hosts: Sequence[HostView]) -> None:
    """Print the hosts."""
    if not hosts:
        line("no host yet: a host is known once its agent has connected (`nco host token NAME`)")
    table(
        (
            *("HOST", "AGENT", "ADDRESS", "LABELS", "TAP", "GENERATION", "CUSTOMIZATIONS"),
            *("SWITCH", "KERNEL"),
        ),
        (
            (
                host.name,
                _agent(connected=host.connected),
                ", ".join(host.addresses),
                ", ".join(host.labels) or "-",
                host.tap or f"none: {host.tap_error or 'no reason given'}",
                _generation(host),
                host.customizations,
                host.switch or "-",
                host.kernel,
            )
            for host in hosts
        ),
    )
    for host in hosts:
        if host.error:
            line(f"{host.name} refuses generation {host.generation_wanted}: {host.error}", "red")


def print_modules(modules: Sequence[ModuleView]) -> None:
    """Print the modules."""
    table(
        ("MODULE", "VERSION", "FOR", "TARGETS", "PARAMETERS", "SUMMARY"),
        (
            (
                module.name,
                module.version or "-",
                f"{module.transport or '?'} {module.server_port or 'any port'}",
                ", ".join(module.targets),
                ", ".join(f"{p.name}={p.default}" for p in module.parameters) or "-",
                module.summary or f"unusable: {module.error}",
            )
            for module in modules
        ),
    )


def print_intents(intents: Sequence[IntentView]) -> None:
    """Print one line for each intent."""
    if not intents:
        line("no intents: `nco apply --help` shows how to make one")
    table(
        ("INTENT", "PHASE", "MODULE", "CLIENTS", "SERVERS", "NOTE"),
        (
            (
                intent.name,
                intent.phase,
                intent.module,
                ", ".join(map(endpoint, intent.spec.clients)),
                ", ".join(map(endpoint, intent.spec.servers)),
                intent.error or intent.unfollowed or _waiting(intent) or "-",
            )
            for intent in intents
        ),
    )


def print_intent(intent: IntentView) -> None:
    """Print all about one intent."""
    spec = intent.spec
    line(f"intent {intent.name}: {intent.phase}", STYLES.get(intent.phase, "yellow"))
    line(
        f"module {intent.module}, clients {', '.join(map(endpoint, spec.clients))}, "
        f"servers {', '.join(map(endpoint, spec.servers))}"
    )
    if intent.error:
        line(f"error: {intent.error}", "red")
    if intent.unfollowed:
        line(f"hosts and addresses are not followed: {intent.unfollowed}", "red")
    if len(intent.deployments) > 1:
        for deployment in intent.deployments:
            line(f"{deployment_text(deployment)}")
    if intent.deprecated:
        line("deprecated: new sockets do without it", "yellow")
    for host, reason in sorted(intent.left_out.items()):
        line(f"without {host}: {reason}", "yellow")
    if intent.waiting:
        line(f"waiting for {_waiting(intent)}", "yellow")
    modules = len({item.module for host in intent.hosts for item in host.customizations})
    module = ("MODULE",) if modules > 1 else ()
    table(
        (
            *("HOST", "AGENT", "GENERATION", "SIDE"),
            *(*module, "TAP", "RECEIVE", "SEND", "COUNTERS", "MATCH"),
        ),
        (
            (
                host.name,
                _agent(connected=host.connected),
                _generation(host),
                item.side,
                *((item.module,) if module else ()),
                item.target,
                _switch(wanted=item.receive_wanted, actual=item.receive),
                _switch(wanted=item.send_wanted, actual=item.send),
                _counters(item),
                match_text(item.match),
            )
            for host in intent.hosts
            for item in host.customizations
        ),
    )
    for mirror in intent.mirrors:
        line(mirror_text(mirror))


def deployment_text(deployment: DeploymentView) -> str:
    """Return one deployment of an intent: what it is, how far, and who it waits for."""
    waits = ", ".join(deployment.unconfirmed)
    return (
        f"deployment {deployment.number} ({deployment.kind}), {deployment.module} on "
        f"{_hosts(deployment.hosts)}: {deployment.phase}"
        + (f", not confirmed by {waits}" if waits else "")
    )


def print_plan(plan: PlanView) -> None:
    """Print what would be done, in order."""
    for build in plan.builds:
        platform = f"{build.target} {build.kernel}" if build.kernel else build.target
        how = "is built already" if build.built else "would be compiled"
        line(f"{build.module} for {platform} {how}: {_hosts(build.hosts)}")
    if plan.running and not plan.steps:
        line(f"intent {plan.name} runs as planned: nothing would change ({plan.kept} stay)")
    elif plan.running:
        line(f"intent {plan.name} runs, {plan.kept} customizations stay; these steps would follow:")
    else:
        line(
            f"intent {plan.name} would go through these steps; each ends when every host confirmed:"
        )
    for number, step in enumerate(plan.steps, start=1):
        line(f"{number}. {step.phase}")
        for change in step.changes:
            line(
                f"   {change.host:<12} {change.side:<6} receive {_on(change.receive):<3} "
                f"send {_on(change.send):<3} {change.module} ({change.target}) "
                f"on {match_text(change.match)}"
            )
    for left_out in plan.skipped:
        line(f"{left_out.side} {left_out.host} is left out: {left_out.reason}", "yellow")
    for mirror in plan.mirrors:
        line(f"switches copy {mirror}")
    line(plan.security)
    line(plan.rotation)
    for demand in plan.stricter:
        line(f"the network's policy asks for more than the intent: {demand}")


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def event_text(event: EventView, began: float) -> str:
    """Return an event as one line, with the seconds since `began`."""
    who = f"{event.host} " if event.host else ""
    return f"{max(0.0, event.at - began):8.3f} s  {event.phase:<9}  {who}{event.text}"


def mirror_text(mirror: MirrorView) -> str:
    """Return a mirror as one line."""
    where = f" on s{mirror.switch} port {mirror.switch_port}" if mirror.switch is not None else ""
    why = f" ({mirror.reason})" if mirror.reason else ""
    return (
        f"mirror {mirror.transport} {socket_text(mirror.server, mirror.port)} -> "
        f"{mirror.middlebox}: "
        f"{mirror.state}{where}{why}, {mirror.packets} packets"
    )


def match_text(match: Match) -> str:
    """Return a match in words."""
    words: list[str] = [match.transport]
    words += [f"process {match.process}"] if match.process else ["any process"]
    words += [f"thread {match.thread}"] if match.thread else []
    words += [f"of {match.executable}"] if match.executable else []
    words += [f"of uid {match.uid}"] if match.uid is not None else []
    if match.local or match.local_port:
        words.append("local " + _addresses(match.local, match.local_port, match.local_port_last))
    if match.remote or match.remote_port:
        words.append("to " + _addresses(match.remote, match.remote_port, match.remote_port_last))
    return " ".join(words)


def _addresses(prefix: Prefix | None, first: int | None, last: int | None) -> str:
    """Return a prefix and ports as one word, or `port` and the ports where any address will do."""
    ports = "" if first is None else f"{first}" if last is None else f"{first}-{last}"
    if prefix is None:
        return f"port {ports}"
    whole = str(prefix).removesuffix(f"/{prefix.max_prefixlen}")
    if not ports:
        return whole
    return f"[{whole}]:{ports}" if prefix.version == 6 else f"{whole}:{ports}"


def endpoint(end: Client | Server) -> str:
    """Return an endpoint as the command line takes it."""
    return f"{end.where}:{end.process}" if end.process else end.where


def _cell(text: str, style: str = "") -> Text:
    """Return text for the terminal; what came from afar must not control it."""
    shown = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
    return Text(shown, style)


def _waiting(intent: IntentView) -> str:
    return "; ".join(f"{host}: {reason}" for host, reason in sorted(intent.waiting.items()))


def _agent(*, connected: bool) -> str:
    return "connected" if connected else "away"


def _generation(host: HostView | IntentHostView) -> str:
    confirmed = "-" if host.generation_confirmed is None else host.generation_confirmed
    return f"{confirmed} of {host.generation_wanted}"


def _on(state: bool) -> str:
    return "on" if state else "off"


def _switch(*, wanted: bool, actual: bool | None) -> str:
    if actual == wanted:
        return _on(wanted)
    return f"{'?' if actual is None else _on(actual)} (wanted {_on(wanted)})"


def _counters(item: CustomizationView) -> str:
    if item.error:
        return f"error: {item.error}"
    counts = item.counters.model_dump() if item.counters else {}
    counts |= {"flows": item.flows or 0}
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "-"
