"""`nco policy`: the policy of the network on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controller import cli_print
from controller.cli_client import connected
from controller.cli_options import Json, State
from controller.config import find_state
from controller.intent import read_toml
from controller.policy import Policy

app = typer.Typer(no_args_is_help=True, help="The policy of the network, which no intent weakens.")


@app.command()
def show(state: State = None, _json: Json = False) -> None:
    """Print the policy, always as JSON; what is null, empty or false asks for nothing.

    Example: nco policy show
    """
    with connected(find_state(state)) as client:
        cli_print.print_json(client.policy())


@app.command("set")
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The whole policy.")],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Revoke running intents that contradict it.")
    ] = False,
    state: State = None,
) -> None:
    r"""Put another policy in force, and say what it changes for running intents.

    Example: nco policy set policy.toml, with the file (what is left out asks for nothing):

      \[modules]
      allowed = \["dns_app_tag", "dns_compress"]
      \[security]
      challenge_every = "60s"
      \[endpoints]
      deny = \["nco"]

    Running intents that contradict it keep it from being set, and are named; with --force they
    are revoked.
    """
    policy = read_toml(file, Policy)
    with connected(find_state(state)) as client:
        change = client.set_policy(policy, force=force)
    for name, sentences in change.broken.items():
        cli_print.line(f"{name} is revoked: {'; '.join(sentences)}", "yellow")
    for name, sentences in change.changed.items():
        cli_print.line(f"{name}: {'; '.join(sentences)}")
    cli_print.line("the policy is in force", "green")
