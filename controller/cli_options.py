"""Options and arguments that several `nco` commands have, each with one meaning and one help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
