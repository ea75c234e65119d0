"""What the commands `nco` and `dca` share: one that is written wrong is answered in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer


def run(app: typer.Typer, name: str, say: Callable[[str], None]) -> None:
    """Run a command line, and exit with its code; `say` is told what is written wrong (code 2)."""
    try:
        code = app(standalone_mode=False, prog_name=name)
    except typer.TyperException as error:
        if error.format_message():  # else its help was shown, as nothing was said to it
            say(f"{name}: {usage_text(error, command_path(app, name, sys.argv[1:]))}")
        sys.exit(error.exit_code)
    sys.exit(code)


def usage_text(error: typer.TyperException, path: str) -> str:
    """Return what is written wrong, and where one reads how it is done, as one line."""
    words = " ".join(error.format_message().split()).rstrip(".")
    words = words.replace("Value error, ", "").replace("Input should", "it should")
    end = "" if words.endswith("?") else ";"
    return f"{words[:1].lower()}{words[1:]}{end} `{path} --help` shows how it is used"


def command_path(app: typer.Typer, name: str, arguments: Sequence[str]) -> str:
    """Return which command arguments are for, like `nco host token`."""
    command, path = typer.main.get_command(app), name
    for word in arguments:
        if isinstance(command, typer.core.TyperGroup) and word in command.commands:
            command, path = command.commands[word], f"{path} {word}"
    return path
