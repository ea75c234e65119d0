"""Options and arguments that several `nco` commands have, each with one meaning and one help."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from controller import durations
from controller.cli_client import CommandError

INTENTS, WATCHING, NETWORK = "Intents", "What happens", "The network"
"""What `nco --help` calls its groups of commands."""

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="The NCO's state folder; left out: L45_STATE, else /var/lib/l45.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print what the service answers, as JSON.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return once it has begun; the NCO goes on by itself.")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", min=0, metavar="SECONDS", help="How long to wait; the NCO goes on after it."
    ),
]
HostName = Annotated[
    str, typer.Argument(metavar="HOST", help="The host's name, one DNS label; `nco host list`.")
]
IntentName = Annotated[
    str, typer.Argument(metavar="INTENT", help="The intent's name; `nco show` lists them.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="How far back, like 90s, 10m, 1h30m or 2d."),
]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Only the newest N.")
]


def time_ago(span: str | None) -> float:
    """Return the Unix time that `--since` means; 0 where it is left out. Raises CommandError."""
    return max(0.0, time.time() - seconds("--since", span)) if span else 0.0


def seconds(option: str, span: str) -> float:
    """Return the span of time that is given by an option; raises CommandError, naming it."""
    try:
        found = durations.seconds(span)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error
    if not found:
        raise CommandError(f"{option} {span}: that is no time at all, write 1s or more")
    return found
