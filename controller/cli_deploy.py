"""`nco apply`, `plan`, `show` and `revoke`: intents, from the first look to the last."""

from __future__ import annotations

from typing import Annotated

import typer

from controller import cli_print
from controller.cli_client import CommandError, connected
from controller.cli_follow import following
from controller.cli_intents import IntentOptions, read_intent
from controller.cli_options import IntentName, Json, NoWait, State, Timeout
from controller.config import find_state
from controller.intent import NoTap
from controller.phases import Phase

What = Annotated[
    str, typer.Argument(metavar="MODULE|FILE.toml", help="A module, or a file with an intent.")
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", help="What it is to be called: one DNS label, like tag-dns."
    ),
]
Clients = Annotated[
    list[str] | None,
    typer.Option(
        "--client",
        metavar="HOST[:PROCESS]",
        help="Who asks, like h1:dig; in place of a host a label (site=B:dig) or a prefix "
        "(10.1.0.0/16:dig). Without PROCESS: the module's, else every one. May be repeated.",
    ),
]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server", metavar="HOST[:PROCESS]", help="Who answers, likewise, like dns:dnsmasq."
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", metavar="N", min=1, max=65535, help="The servers' port. Left out: the module's."
    ),
]
Mirror = Annotated[
    str | None,
    typer.Option(
        "--mirror", metavar="HOST", help="A host that gets a copy of the traffic. Left out: nobody."
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=NUMBER",
        help="A parameter of the module, like interval=500; `nco module list` has names and "
        "defaults. May be repeated.",
    ),
]
Priority = Annotated[
    int | None,
    typer.Option(
        "--priority",
        min=0,
        max=65535,
        metavar="N",
        help="Place in the order where several intents are on one socket: the lowest acts first. "
        "Left out: 100. `nco priority` changes it later.",
    ),
]
NoTapOption = Annotated[
    NoTap | None,
    typer.Option(
        "--no-tap",
        help="Where no tap of a host can run the module (no kernel tap for TCP, say): refuse the "
        "whole intent, or skip that host and say so. Left out: refuse.",
    ),
]


def apply(
    what: What,
    *,
    name: Name = None,
    client: Clients = None,
    server: Servers = None,
    port: Port = None,
    mirror: Mirror = None,
    param: Parameters = None,
    priority: Priority = None,
    no_tap: NoTapOption = None,
    no_wait: NoWait = False,
    timeout: Timeout = 60.0,
    state: State = None,
) -> None:
    r"""Deploy an intent, and show how it converges.

    Example: nco apply dns_app_tag --name tag-dns --client h1:dig --server dns:dnsmasq --mirror mb

    Example: nco apply tag-dns.toml, with the same in a file:

      name = "tag-dns"
      module = "dns_app_tag"
      \[\[client]]
      host = "h1"
      process = "dig"
      \[\[server]]
      host = "dns"
      process = "dnsmasq"
      \[middlebox]
      host = "mb"

    First every host learns to receive; once all have confirmed, sending is switched on.
    Applying the same again changes nothing.

    The exit code is 1 when the intent is refused, when it fails (then nothing of it is left
    anywhere), and when it is not active in time.
    """
    options = IntentOptions(
        *(name, client or [], server or [], port, mirror, param or []),
        priority=priority,
        no_tap=no_tap,
    )
    intent = read_intent(what, options)
    how = (
        f"{intent.name} is deployed all the same: `nco watch {intent.name}` follows it, "
        f"`nco revoke {intent.name}` takes it away"
    )
    with following(state, intent.name, timeout, how) as (nco, follower):
        answer = nco.apply(intent)
        if no_wait:
            cli_print.line(f"{intent.name} is in phase {answer.phase}")
        else:
            follower.until_active()


def plan(
    what: What,
    *,
    name: Name = None,
    client: Clients = None,
    server: Servers = None,
    port: Port = None,
    mirror: Mirror = None,
    param: Parameters = None,
    priority: Priority = None,
    no_tap: NoTapOption = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what `nco apply` with the same arguments would do, without doing it.

    Example: nco plan dns_app_tag --name tag-dns --client h1:dig --server dns:dnsmasq
    """
    options = IntentOptions(
        *(name, client or [], server or [], port, mirror, param or []),
        priority=priority,
        no_tap=no_tap,
    )
    intent = read_intent(what, options)
    with connected(find_state(state)) as nco:
        answer = nco.plan(intent)
    cli_print.print_json(answer) if json else cli_print.print_plan(answer)


def show(
    name: Annotated[
        str | None, typer.Argument(metavar="INTENT", help="One intent. Left out: all.")
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Show intents: phase, hosts, customizations as wanted and as they are, counters, mirrors.

    Example: nco show tag-dns
    """
    with connected(find_state(state)) as nco:
        if name is None:
            answers = nco.intents()
            cli_print.print_json(answers) if json else cli_print.print_intents(answers)
            return
        answer = nco.intent(name)
    if answer.phase == Phase.GONE:
        raise CommandError(f"intent {name!r} is gone: it was revoked")
    cli_print.print_json(answer) if json else cli_print.print_intent(answer)


def revoke(
    name: IntentName, *, no_wait: NoWait = False, timeout: Timeout = 60.0, state: State = None
) -> None:
    """Take an intent away: sending off, drained, receiving off, removed.

    Example: nco revoke tag-dns
    """
    how = f"{name} is taken away all the same: `nco watch {name}` follows it"
    with following(state, name, timeout, how) as (nco, follower):
        answer = nco.revoke(name)
        if no_wait:
            cli_print.line(f"{name} is in phase {answer.phase}")
        else:
            follower.until_gone()
