"""`nco rotate`, `activate`, `deprecate` and the like: what is done to intents that are there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from controller import cli_print
from controller.api import IntentView
from controller.api_operations import Admit, Priority, Rotate, Switch
from controller.cli_client import (
    WITHOUT_HOSTS,
    CommandError,
    NcoClient,
    connected,
    host_path,
    intent_path,
)
from controller.cli_intents import POLL, parameter
from controller.config import find_state
from controller.phases import Phase

app = typer.Typer()

State = Annotated[
    Path | None, typer.Option("--state", help="State folder.", metavar="DIR", show_default=False)
]
Name = Annotated[str, typer.Argument(help="The intent's name.")]
Off = Annotated[bool, typer.Option("--off", help="Take it back.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the hosts.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the hosts.")]


@app.command()
def rotate(
    name: Name,
    module: Annotated[
        str | None, typer.Option("--module", help="What takes its place; default: the same.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="A parameter. May be repeated."),
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
    with connected(find_state(state)) as nco:
        if cancel:
            nco.call("DELETE", f"{intent_path(name)}/rotation", IntentView)
            cli_print.line(f"the rotation of {name} is taken back")
            return
        body = Rotate(
            module=module, parameters=dict(parameter(text, "--set") for text in values or [])
        )
        begun = nco.call("POST", f"{intent_path(name)}/rotate{WITHOUT_HOSTS}", IntentView, body)
        number = max(deployment.number for deployment in begun.deployments)
        if no_wait:
            cli_print.line(f"the rotation of {name} has begun")
        else:
            _follow_rotation(nco, name, number, timeout)


def _follow_rotation(nco: NcoClient, name: str, number: int, timeout: float) -> None:
    """Print what happens until one deployment is left; raises CommandError where it is another."""
    began, printed = time.time(), time.time()
    deadline = time.monotonic() + timeout
    while True:
        view = nco.intent(name, hosts=False)
        for event in view.history:
            if event.at > printed:
                printed = event.at
                if not (event.host and event.phase == Phase.ACTIVE):  # confirms each change anew
                    cli_print.line(cli_print.event_text(event, began))
        if not any(one.kind == "rotation" and one.number == number for one in view.deployments):
            raise CommandError(
                f"{view.error or 'the rotation was taken back'}; {name} is as before"
            )
        if all(one.phase == Phase.ACTIVE or one.kind == "left" for one in view.deployments):
            cli_print.line(f"{name} has {view.module}", "green")
            return
        if time.monotonic() >= deadline:
            waits = "; ".join(f"{host}: {why}" for host, why in view.waiting.items())
            raise CommandError(
                f"{name} is still being rotated after {timeout:g} s, waiting for "
                f"{waits or 'nobody'}; it goes on by itself: `nco show {name}` shows how far it "
                f"is, `nco rotate {name} --cancel` takes it back"
            )
        time.sleep(POLL)


@app.command()
def deprecate(name: Name, *, off: Off = False, state: State = None) -> None:
    """Have new sockets do without an intent; those that have it keep it.

    Example: nco deprecate tag-dns; to take it back: nco deprecate tag-dns --off
    """
    _ask(state, name, "deprecate", Switch(on=not off))
    cli_print.line(f"{name} is {'no longer ' if off else ''}deprecated")


@app.command()
def deactivate(name: Name, state: State = None) -> None:
    """Have an intent stay attached and be passed over: senders stop before receivers.

    Example: nco deactivate tag-dns
    """
    _ask(state, name, "activate", Switch(on=False))
    cli_print.line(f"{name} is being deactivated: `nco show {name}` shows how far it is")


@app.command()
def activate(name: Name, state: State = None) -> None:
    """Have an intent act again that was deactivated: receivers begin before senders.

    Example: nco activate tag-dns
    """
    _ask(state, name, "activate", Switch(on=True))
    cli_print.line(f"{name} is being activated: `nco show {name}` shows how far it is")


@app.command()
def priority(
    name: Name,
    number: Annotated[int, typer.Argument(metavar="N", min=0, max=65535, help="Lowest first.")],
    state: State = None,
) -> None:
    """Change an intent's place in the order of those on one socket.

    Example: nco priority tag-dns 50
    """
    _ask(state, name, "priority", Priority(priority=number))
    cli_print.line(f"{name} has priority {number}")


@app.command()
def admit(
    name: Name,
    host: Annotated[str, typer.Argument(help="A host that the intent leaves out.")],
    state: State = None,
) -> None:
    """Let a host take part again that an intent left out, after a failed challenge say.

    Example: nco admit tag-dns h1
    """
    _ask(state, name, "admit", Admit(host=host))
    cli_print.line(f"{name} lets {host} in again")


def host_forget(
    name: Annotated[str, typer.Argument(help="The host's name.")], state: State = None
) -> None:
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
