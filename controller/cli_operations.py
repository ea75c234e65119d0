"""`nco rotate`, `activate`, `deprecate` and the like: what is done to intents that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from controller import cli_print
from controller.api import IntentView
from controller.api_operations import Admit, Priority, Rotate, Switch
from controller.cli_client import (
    WITHOUT_HOSTS,
    connected,
    host_path,
    intent_path,
)
from controller.cli_follow import following
from controller.cli_intents import parameter
from controller.cli_options import INTENTS, HostName, IntentName, NoWait, State, Timeout
from controller.config import find_state

app = typer.Typer()

Off = Annotated[bool, typer.Option("--off", help="Take it back: new sockets have it again.")]


@app.command(rich_help_panel=INTENTS)
def rotate(
    name: IntentName,
    module: Annotated[
        str | None,
        typer.Option(
            "--module", metavar="MODULE", help="What takes its place. Left out: the same."
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=NUMBER",
            help="A parameter, like delay=500. May be repeated. Left out: as they are.",
        ),
    ] = None,
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take back a rotation that is not done.")
    ] = False,
    no_wait: NoWait = False,
    timeout: Timeout = 60.0,
    state: State = None,
) -> None:
    """Replace an intent's module, parameters or keys on live flows, without losing a message.

    Without --module and --set its keys alone are new. Every host first understands what comes,
    then sends it; what was there goes after every host has confirmed that.

    Example: nco rotate tag-dns --module dns_compress
    """
    if cancel:
        with connected(find_state(state)) as nco:
            nco.call("DELETE", f"{intent_path(name)}/rotation", IntentView)
        cli_print.line(
            f"the rotation of {name} is being taken back: `nco show {name}` shows how far it is"
        )
        return
    body = Rotate(module=module, parameters=dict(parameter(text, "--set") for text in values or []))
    how = (
        f"the rotation goes on: `nco watch {name}` follows it, "
        f"`nco rotate {name} --cancel` takes it back"
    )
    with following(state, name, timeout, how) as (nco, follower):
        begun = nco.call("POST", f"{intent_path(name)}/rotate{WITHOUT_HOSTS}", IntentView, body)
        if no_wait:
            cli_print.line(f"the rotation of {name} has begun")
        else:
            follower.until_rotated(max(one.number for one in begun.deployments))


@app.command(rich_help_panel=INTENTS)
def deprecate(name: IntentName, *, off: Off = False, state: State = None) -> None:
    """Have new sockets do without an intent; those that have it keep it.

    Example: nco deprecate tag-dns; to take it back: nco deprecate tag-dns --off
    """
    _ask(state, name, "deprecate", Switch(on=not off))
    cli_print.line(f"{name} is {'no longer ' if off else ''}deprecated")


@app.command(rich_help_panel=INTENTS)
def deactivate(name: IntentName, state: State = None) -> None:
    """Have an intent stay attached and be passed over: senders stop before receivers.

    Example: nco deactivate tag-dns
    """
    _ask(state, name, "activate", Switch(on=False))
    cli_print.line(f"{name} is being deactivated: `nco show {name}` shows how far it is")


@app.command(rich_help_panel=INTENTS)
def activate(name: IntentName, state: State = None) -> None:
    """Have an intent act again that was deactivated: receivers begin before senders.

    Example: nco activate tag-dns
    """
    _ask(state, name, "activate", Switch(on=True))
    cli_print.line(f"{name} is being activated: `nco show {name}` shows how far it is")


@app.command(rich_help_panel=INTENTS)
def priority(
    name: IntentName,
    number: Annotated[
        int,
        typer.Argument(
            metavar="N", min=0, max=65535, help="The lowest acts first; 100 by default."
        ),
    ],
    state: State = None,
) -> None:
    """Change an intent's place in the order of those on one socket.

    Example: nco priority tag-dns 50
    """
    _ask(state, name, "priority", Priority(priority=number))
    cli_print.line(f"{name} has priority {number}")


@app.command(rich_help_panel=INTENTS)
def admit(
    name: IntentName,
    host: Annotated[
        str,
        typer.Argument(
            metavar="HOST", help="A host that the intent leaves out; `nco show INTENT`."
        ),
    ],
    state: State = None,
) -> None:
    """Let a host take part again that an intent left out, after a failed challenge say.

    Example: nco admit tag-dns h1
    """
    _ask(state, name, "admit", Admit(host=host))
    cli_print.line(f"{name} lets {host} in again")


def host_forget(name: HostName, state: State = None) -> None:
    """Take a host that never returns out of everything; its agent must not be connected.

    Example: nco host forget h1

    Nothing can be done on it any more: what it still has there, it keeps, until it is connected
    again. Who would send to it stops.
    """
    with connected(find_state(state)) as nco:
        nco.call("DELETE", host_path(name), None)
    cli_print.line(f"{name} is forgotten")


def _ask(state: Path | None, name: str, what: str, body: BaseModel) -> IntentView:
    with connected(find_state(state)) as nco:
        return nco.call("POST", f"{intent_path(name)}/{what}", IntentView, body)
