"""Intents on the command line: what `nco apply` and `nco plan` are told by options, or a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.cli_client import CommandError
from controller.errors import Refusal
from controller.intent import Intent, NoTap, load
from wire.manifest import explain


@dataclass(frozen=True)
class IntentOptions:
    """An intent as the command line says it."""

    name: str | None = None
    clients: list[str] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    port: int | None = None
    mirror: str | None = None
    parameters: list[str] = field(default_factory=list)
    priority: int | None = None
    no_tap: NoTap | None = None


def read_intent(what: str, options: IntentOptions) -> Intent:
    """Return the intent in the file `what`, or that of the module `what` with the options."""
    if what.endswith(".toml"):
        if options != IntentOptions():
            raise CommandError(f"{what} says all of the intent: leave the other options out")
        try:
            return load(Path(what))
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
    if "/" in what:
        raise CommandError(f"{what!r} is no module; the name of an intent's file ends in .toml")
    if options.name is None:
        raise CommandError("--name NAME is needed: what `nco show` and `nco revoke` will call it")
    if not options.clients:
        raise CommandError("--client HOST:PROCESS is needed, like --client h1:dig")
    if not options.servers:
        raise CommandError("--server HOST:PROCESS is needed, like --server dns:dnsmasq")
    said: dict[str, Any] = {
        "name": options.name,
        "module": what,
        "client": [endpoint(text, "--client") for text in options.clients],
        "server": [endpoint(text, "--server") for text in options.servers],
        "port": options.port,
        "middlebox": {"host": options.mirror} if options.mirror else None,
        "parameters": dict(parameter(text) for text in options.parameters),
    }
    said |= {"priority": options.priority} if options.priority is not None else {}
    said |= {"no_tap": options.no_tap} if options.no_tap else {}
    try:
        return Intent.model_validate(said)
    except ValidationError as error:
        raise CommandError(explain(error)) from error


def endpoint(text: str, option: str) -> dict[str, str | list[str]]:
    """Return `HOST`, `NAME=VALUE,...` or `PREFIX/LENGTH`, with `:PROCESS` or without.

    The address of a prefix may have colons of its own. Raises CommandError.
    """
    address, slash, rest = text.rpartition("/")
    place, colon, process = rest.partition(":")
    where = address + slash + place
    if not where or (colon and not process):
        raise CommandError(
            f"{option} {text!r}: write HOST or HOST:PROCESS, like h1:dig; in place of HOST a label "
            "(site=B:dig) or a prefix (10.1.0.0/16:dig)"
        )
    found: dict[str, str | list[str]] = {"host": where}
    if slash:
        found = {"prefix": where}
    elif "=" in where:
        found = {"label": where.split(",")}
    return found | ({"process": process} if colon else {})


def parameter(text: str, option: str = "--param") -> tuple[str, int]:
    """Return the name and the value of `NAME=NUMBER`; raises CommandError, naming the option."""
    name, _, value = text.partition("=")
    try:
        return name, int(value, 0)
    except ValueError as error:
        raise CommandError(f"{option} {text!r}: write NAME=NUMBER, like interval=500") from error
