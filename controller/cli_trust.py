"""`nco host token`, `host revoke`, `token`, `audit`: who belongs, and who did what."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer

from controller import cli_print
from controller.api_trust import (
    AuditPage,
    AuditView,
    ChallengeRequest,
    ChallengeView,
    EnrolTokenRequest,
    EnrolTokenView,
    NewTokenView,
    RevokedView,
    RoleName,
    TokenRequest,
    TokenView,
    deed,
)
from controller.cli_client import CommandError, connected, host_path
from controller.cli_follow import going_on
from controller.cli_options import HostName, Json, Limit, Since, State, seconds, time_ago
from controller.config import find_state

CHALLENGE_SECONDS = 3700.0
"""A window may be as long as an hour."""


TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="A new file for it, mode 0600. Left out: standard output."
    ),
]

token_app = typer.Typer(no_args_is_help=True, help="Tokens of those who call the REST API by TLS.")


def host_token(
    name: HostName,
    valid: Annotated[
        str,
        typer.Option(
            "--valid", metavar="TIME", help="Within which it has to be used, like 30m; at most 30d."
        ),
    ] = "1h",
    out: TokenFile = None,
    state: State = None,
) -> None:
    """Make a token with which a host enrols, once.

    Example: nco host token h1 --out h1.token; on h1: dca enrol h1.token --credentials /etc/l45

    It is a secret until it is used: give it to the host by a way that keeps it one. A newer token
    for the same host takes its place.
    """
    asked = EnrolTokenRequest(valid=seconds("--valid", valid))
    with _destination(out) as file, connected(find_state(state)) as nco:
        answer = nco.call("POST", f"{host_path(name)}/token", EnrolTokenView, asked)
        file.write(f"{answer.token}\n")
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer.expires))
    cli_print.note(f"good once, until {until}, for host {name}")
    if answer.replaces:
        cli_print.note(f"{name} has a certificate now: it ends when this token is used")


def host_revoke(
    name: HostName,
    *,
    unseen: Annotated[
        bool,
        typer.Option("--unseen", help="Also a host that has never connected, nor got a token."),
    ] = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Cut a host off, now: its session ends and its certificates are never accepted again.

    Example: nco host revoke h1; where credentials of `nco host add` were lost on their way:
    nco host revoke h9 --unseen

    Its customizations stay in its kernel, and what intents ask of it stays asked: `nco host forget`
    takes it out of all intents. A new token (`nco host token`) lets it enrol anew.
    """
    with connected(find_state(state)) as nco:
        answer = nco.call("POST", f"{host_path(name)}/revoke?unseen={unseen}", RevokedView)
    if json:
        cli_print.print_json(answer)
        return
    session = "its session was cut" if answer.connected else "it was not connected"
    cli_print.line(f"{name} is revoked: {answer.certificates} certificates, {session}")


@token_app.command("create")
def token_create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the audit log will call its holder.")
    ],
    role: Annotated[
        RoleName,
        typer.Option(
            "--role", help="viewer: sees; operator: also deploys; admin: also who belongs, policy."
        ),
    ],
    out: TokenFile = None,
    valid: Annotated[
        str | None,
        typer.Option(
            "--valid",
            metavar="TIME",
            help="How long it is good, like 90d. Left out: until revoked.",
        ),
    ] = None,
    state: State = None,
) -> None:
    """Make a token for a REST caller: viewers see, operators deploy, admins decide who belongs.

    Example: nco token create grafana --role viewer --valid 90d --out grafana.token
    """
    asked = TokenRequest(name=name, role=role, valid=seconds("--valid", valid) if valid else None)
    with _destination(out) as file, connected(find_state(state)) as nco:
        answer = nco.call("POST", "/tokens", NewTokenView, asked)
        file.write(f"{answer.token}\n")


@token_app.command("list")
def token_list(state: State = None, json: Json = False) -> None:
    """Show the tokens, without their secrets.

    Example: nco token list
    """
    with connected(find_state(state)) as nco:
        answer = nco.call("GET", "/tokens", list[TokenView])
    if json:
        cli_print.print_json(answer)
        return
    rows = [(t.name, t.role, _moment(t.created), _moment(t.expires)) for t in answer]
    cli_print.table(("NAME", "ROLE", "CREATED", "EXPIRES"), rows)


@token_app.command("revoke")
def token_revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the token; `nco token list` shows them.")
    ],
    state: State = None,
) -> None:
    """Accept a token no more, from now on.

    Example: nco token revoke grafana
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", name):
        raise CommandError(f"{name!r} is no token's name; `nco token list` shows them")
    with connected(find_state(state)) as nco:
        nco.call("DELETE", f"/tokens/{name}", None)
    cli_print.line(f"token {name} is revoked")


def challenge(
    name: Annotated[
        str,
        typer.Argument(metavar="HOST|INTENT", help="A host or an intent: all that it has."),
    ],
    state: State = None,
    json: Json = False,
) -> None:
    """Ask now for proof that what a host, or an intent, has is really running.

    Example: nco challenge tag-dns

    The exit code is 1 where a proof failed (what failed is revoked, on both ends) or none came.
    """
    how = "the NCO goes on asking, and acts on what it hears; `nco audit` has what failed"
    with going_on(how), connected(find_state(state), CHALLENGE_SECONDS) as nco:
        asked = ChallengeRequest(name=name)
        answer = nco.call("POST", "/challenges", list[ChallengeView], asked)
    rows = [(c.host, c.intent, c.module, c.verdict, c.strength, c.text) for c in answer]
    if json:
        cli_print.print_json(answer)
    else:
        cli_print.table(("HOST", "INTENT", "MODULE", "VERDICT", "BY", "REASON"), rows)
    if not answer:
        raise CommandError(
            f"nothing of {name!r} could be challenged: is it in force, and connected?"
        )
    if any(one.verdict != "passed" for one in answer):
        raise CommandError("not everything was proven; what was not is revoked on both ends")


def audit(
    since: Since = "1d",
    limit: Limit = 1000,
    state: State = None,
    json: Json = False,
) -> None:
    """Show who changed what, when, from where, and what came of it: the latest last.

    Example: nco audit --since 2h

    What was asked for is cut at the width of the terminal; --json has all of it.
    """
    begin = time_ago(since)
    with connected(find_state(state)) as nco:
        page = nco.call("GET", f"/audit?since={begin:.3f}&limit={limit}", AuditPage)
    if json:
        cli_print.print_json(page)
        return
    for entry in page.entries:
        _print_entry(entry)
    if not page.entries:
        cli_print.line("nothing was changed in this time")
    if page.more:
        cli_print.note(f"older ones are left out: --limit {10 * limit}, or a shorter --since")


def _print_entry(entry: AuditView) -> None:
    """Print an entry of the audit log on two lines, the second one with what was asked for."""
    when = _moment(entry.at)
    what = deed(entry.action, entry.subject)
    cli_print.line(f"{when}  {entry.actor}  {what}: {entry.outcome}")
    where = f"from {entry.source}" if entry.source else ""
    if more := "  ".join(filter(None, (where, entry.detail))):
        cli_print.cut_line(f"{'':{len(when)}}  {more}")


@contextlib.contextmanager
def _destination(out: Path | None) -> Iterator[TextIO]:
    """Give where a secret is written to: a new file of mode 0600, or standard output.

    The file is there before the secret is made, and goes where it is not.
    """
    if out is None:
        yield sys.stdout
        return
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            yield file
    except BaseException:
        out.unlink()
        raise
    cli_print.note(f"{out} has the token, mode 0600")


def _moment(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "never"
