"""`nco host label`: what hosts are called, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from controller import cli_print
from controller.cli_client import CommandError, connected, host_path
from controller.cli_options import HostName, State
from controller.config import find_state
from controller.labels import Labels
from wire.manifest import explain


def host_label(
    name: HostName,
    labels: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE|NAME-...", help="NAME- takes the label away."),
    ],
    state: State = None,
) -> None:
    """Give a host labels, by which intents and the policy can mean it.

    Example: nco host label alpha site=B role=web; to take one away: nco host label alpha role-

    Intents that mean hosts by such a label take the host in, or let it go.
    """
    try:
        change = Labels.model_validate(
            {
                "put": [label for label in labels if not label.endswith("-")],
                "drop": [label[:-1] for label in labels if label.endswith("-")],
            }
        )
    except ValidationError as error:
        raise CommandError(f"{explain(error)}, or NAME- to take one away") from error
    with connected(find_state(state)) as client:
        there = client.call("POST", f"{host_path(name)}/labels", list[str], change)
    cli_print.line(f"{name}: {', '.join(there) or 'no labels'}")
