"""`nco watch`, `events`, `history`, `flows`, `counters`, `alerts`: what was monitored."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import urlencode

import typer

from controller import cli_events
from controller import cli_monitor_print as show
from controller.cli_client import CommandError, NcoClient, Unreachable, connected, intent_path
from controller.cli_options import WATCHING, Json, Limit, Since, State, time_ago
from controller.cli_print import line, note, print_json
from controller.config import find_state
from controller.monitor_api import AlertView, EventRecord, FlowView, SampleView
from controller.monitor_kinds import Kind

app = typer.Typer()

Kinds = Annotated[
    list[Kind] | None,
    typer.Option("--kind", help="Only events of this kind; may be repeated. Left out: all."),
]
Host = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="Only of this host. Left out: all.")
]
ForIntent = Annotated[
    str | None,
    typer.Option("--intent", metavar="INTENT", help="Only of this intent. Left out: all."),
]
Intent = Annotated[
    str, typer.Argument(metavar="INTENT", help="Its name; also of one that is gone.")
]


@app.command(rich_help_panel=WATCHING)
def watch(
    name: Annotated[str | None, typer.Argument(metavar="INTENT", help="Left out: all.")] = None,
    *,
    kind: Kinds = None,
    host: Host = None,
    since: Since = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Follow what happens in the network, as it happens, until Ctrl-C.

    Example: nco watch tag-dns

    Shows phases of intents and which host confirms them, agents that come and go, alerts. When the
    service is restarted, it goes on where it was. With --json each event is a line.
    """
    wanted = _query(kind=kind, intent=name, host=host)
    last = int(time_ago(since) * 1e6) if since else None
    try:
        with connected(find_state(state)) as nco:
            if name is not None:
                _note_if_unknown(nco, name)
            for event in cli_events.follow(nco, wanted, last, say=note):
                print_json(event, indent=None) if json else show.print_event(event)
    except KeyboardInterrupt:
        return


@app.command(rich_help_panel=WATCHING)
def events(
    *,
    kind: Kinds = None,
    intent: ForIntent = None,
    host: Host = None,
    since: Since = None,
    limit: Limit = 200,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what has happened in the network.

    Example: nco events --kind host --since 1h
    """
    wanted = _query(kind=kind, intent=intent, host=host, since=time_ago(since), limit=limit)
    with connected(find_state(state)) as nco:
        found = nco.call("GET", f"/events/log?{wanted}", list[EventRecord])
    print_json(found) if json else show.print_events(found)


@app.command(rich_help_panel=WATCHING)
def history(
    intent: Intent,
    since: Since = None,
    limit: Limit = 1000,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what has happened to an intent, also before the service was restarted.

    Example: nco history tag-dns
    """
    wanted = _query(since=time_ago(since), limit=limit)
    with connected(find_state(state)) as nco:
        found = nco.call("GET", f"{intent_path(intent)}/history?{wanted}", list[EventRecord])
    print_json(found) if json else show.print_events(found)


@app.command(rich_help_panel=WATCHING)
def flows(
    *,
    host: Host = None,
    intent: ForIntent = None,
    process: Annotated[
        str | None,
        typer.Option(
            "--process", metavar="NAME", help="Only of this process, or this thread, like dig."
        ),
    ] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Only flows that are there now.")] = False,
    since: Since = None,
    limit: Limit = 200,
    state: State = None,
    json: Json = False,
) -> None:
    """Show customized flows, the last that were seen first: whose they are, and what they count.

    Example: nco flows --host h1 --process dig --since 10m

    A host tells of its flows every few seconds.
    """
    wanted = _query(
        host=host,
        intent=intent,
        process=process,
        open=is_open,
        since=time_ago(since),
        limit=limit,
    )
    with connected(find_state(state)) as nco:
        found = nco.call("GET", f"/flows?{wanted}", list[FlowView])
    print_json(found) if json else show.print_flows(found, time.time())


@app.command(rich_help_panel=WATCHING)
def counters(
    intent: Intent,
    since: Since = "1h",
    limit: Limit = 1000,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what an intent's customizations counted, sample by sample.

    Example: nco counters tag-dns --since 2h
    """
    wanted = _query(intent=intent, since=time_ago(since), limit=limit)
    with connected(find_state(state)) as nco:
        found = nco.call("GET", f"/counters?{wanted}", list[SampleView])
    print_json(found) if json else show.print_samples(found)


@app.command(rich_help_panel=WATCHING)
def alerts(
    past: Annotated[
        int,
        typer.Option(
            "--past", metavar="N", min=0, help="Also the newest N of those that were cleared."
        ),
    ] = 0,
    clear: Annotated[
        int | None,
        typer.Option(
            "--clear", metavar="NUMBER", help="Clear this alert; the list has its number."
        ),
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what somebody should look at. Most alerts are cleared by what mends their reason.

    Example: nco alerts; to clear one by hand, by its number there: nco alerts --clear NUMBER
    """
    with connected(find_state(state)) as nco:
        if clear is not None:
            nco.call("DELETE", f"/alerts/{clear}", None)
            line(f"alert {clear} is cleared")
            return
        found = nco.call("GET", f"/alerts?{_query(cleared=past)}", list[AlertView])
    print_json(found) if json else show.print_alerts(found)


def _note_if_unknown(nco: NcoClient, name: str) -> None:
    """Say so of an intent that is not there: it may come, or its name is mistyped."""
    try:
        nco.intent(name, hosts=False)
    except Unreachable:
        raise
    except CommandError as error:
        note(f"{error}; it is waited for")


def _query(**wanted: object) -> str:
    return urlencode(
        {name: value for name, value in wanted.items() if value not in (None, False)}, doseq=True
    )
