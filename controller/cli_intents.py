"""`nco apply`, `plan`, `show` and `revoke`: intents on the command line, and waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.api import IntentView
from controller.cli_client import CommandError, NcoClient, Unreachable
from controller.cli_print import event_text, line, mirror_text
from controller.errors import Refusal
from controller.intent import Intent, load
from controller.phases import GOING_UP, OVER, Phase
from wire.manifest import explain

POLL = 0.05
"""Seconds between two looks at an intent."""

WORTH_SAYING = 1.0
"""Seconds after which it is said for whom an intent waits."""


@dataclass(frozen=True)
class IntentOptions:
    """An intent as the command line says it."""

    name: str | None = None
    clients: list[str] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    port: int | None = None
    mirror: str | None = None
    parameters: list[str] = field(default_factory=list)


def read_intent(what: str, options: IntentOptions) -> Intent:
    """Return the intent in the file `what`, or that of the module `what` with the options."""
    if what.endswith(".toml"):
        if options != IntentOptions():
            raise CommandError(f"{what} says all of the intent: leave the other options out")
        try:
            return load(Path(what))
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
    if options.name is None:
        raise CommandError("--name NAME is needed: what `nco show` and `nco revoke` will call it")
    for option, endpoints in (("--client", options.clients), ("--server", options.servers)):
        if not endpoints:
            raise CommandError(f"{option} HOST:PROCESS is needed, like {option} h1:dig")
    said: dict[str, Any] = {
        "name": options.name,
        "module": what,
        "client": [endpoint(text, "--client") for text in options.clients],
        "server": [endpoint(text, "--server") for text in options.servers],
        "port": options.port,
        "middlebox": {"host": options.mirror} if options.mirror else None,
        "parameters": dict(parameter(text) for text in options.parameters),
    }
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
        raise CommandError(f"{option} {text!r}: write NAME=NUMBER, like limit=512") from error


class Follower:
    """Prints what happens to an intent, as it happens, until it is where it should be."""

    def __init__(self, client: NcoClient, name: str, timeout: float) -> None:
        self._client = client
        self._name = name
        self._timeout = timeout
        self._began = time.time()
        self._printed = self._began
        self._said = ""
        self._quiet_until = time.monotonic() + WORTH_SAYING

    def until_active(self) -> None:
        """Wait until the intent is active and its mirrors stand; raises CommandError."""
        view = self._follow(lambda v: v.phase in OVER or (v.phase == Phase.ACTIVE and _mirrored(v)))
        for mirror in view.mirrors:
            line(mirror_text(mirror))
        if view.phase == Phase.ACTIVE and _mirrored(view):
            line(f"{self._name} is active", "green")
        elif view.phase == Phase.ACTIVE:
            raise CommandError(
                f"{self._name} is active on its hosts, but a mirror is not installed after "
                f"{self._timeout:g} s; `nco show {self._name}` shows how far it is"
            )
        else:
            raise CommandError(self._not_active(view))

    def until_gone(self) -> None:
        """Wait until nothing is left of the intent; raises CommandError."""
        view = self._follow(lambda v: v.phase in OVER)
        if view.phase != Phase.GONE:
            raise CommandError(
                f"{self._name} is not gone after {self._timeout:g} s: phase {view.phase}"
                f"{_waits(view)}; it goes on by itself, `nco show {self._name}` shows how far it is"
            )
        line(f"{self._name} is gone", "green")

    def _not_active(self, view: IntentView) -> str:
        if view.phase == Phase.FAILED:
            return f"{self._name} failed, and nothing of it is left on any host: {view.error}"
        if view.phase in GOING_UP or view.phase == Phase.BUILDING:
            return (
                f"{self._name} is not active after {self._timeout:g} s: phase {view.phase}"
                f"{_waits(view)}; it goes on by itself: `nco show {self._name}` shows how far it "
                f"is, `nco revoke {self._name}` takes it away"
            )
        return f"{self._name} was taken away: phase {view.phase}"

    def _follow(self, arrived: Callable[[IntentView], bool]) -> IntentView:
        deadline = time.monotonic() + self._timeout
        while True:
            view = self._look(deadline)
            self._print_news(view)
            if arrived(view) or time.monotonic() >= deadline:
                return view
            time.sleep(POLL)

    def _look(self, deadline: float) -> IntentView:
        """Return the intent; a service that is being restarted is waited for."""
        while True:
            try:
                return self._client.intent(self._name, hosts=False)
            except Unreachable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(10 * POLL)

    def _print_news(self, view: IntentView) -> None:
        for event in view.history:
            if event.at > self._printed:
                self._printed = event.at
                self._quiet_until = time.monotonic() + WORTH_SAYING
                line(event_text(event, self._began))
        held_up = "; ".join(
            [f"{host}: {reason}" for host, reason in sorted(view.waiting.items())]
            + [mirror_text(m) for m in view.mirrors if view.phase == Phase.ACTIVE]
        )
        if held_up and held_up != self._said and time.monotonic() > self._quiet_until:
            self._said = held_up
            line(f"            waiting for {held_up}", "yellow")


def _mirrored(view: IntentView) -> bool:
    return all(mirror.state == "installed" for mirror in view.mirrors)


def _waits(view: IntentView) -> str:
    reasons = [f"{host} ({reason})" for host, reason in sorted(view.waiting.items())]
    return f", waiting for {', '.join(reasons)}" if reasons else ""
