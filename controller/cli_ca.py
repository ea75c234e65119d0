"""`nco ca`: the NCO's certification authority, and how it is replaced."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import httpx
import typer

from controller import cli_print
from controller.api_ca import CaChange, CaHostView, CaView
from controller.cli_client import CommandError, NcoClient, Unreachable, connected
from controller.cli_options import Json, State
from controller.config import find_state

REPLACE_SECONDS = 60.0
"""Hosts that enrol at the moment are waited for."""

PHASES = {
    "spread": "hosts learn to trust {other}; {issuing} issues",
    "retire": "{issuing} issues; hosts get certificates of it, then {other} goes",
}
NEXT = {
    "spread": "as soon as all hosts trust it, it issues",
    "retire": "as soon as no host has a certificate of the other one, that one goes",
}

app = typer.Typer(no_args_is_help=True, help="The certification authority (CA) of this NCO.")


@app.command()
def show(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write what to trust there, PEM: for --ca."),
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the CA, how far its replacement is, and which hosts that waits for.

    Example: nco ca show

    While it is replaced, callers of the REST API by TLS need both: nco ca show --out ca.pem
    """
    with connected(find_state(state)) as nco:
        answer = nco.call("GET", "/ca", CaView)
    if out is not None:
        out.write_text(answer.pem, encoding="ascii")
        cli_print.note(f"{out} has {len(answer.authorities)} certificates to trust")
    if json:
        cli_print.print_json(answer)
    elif out is None:
        _print(answer)


@app.command()
def rotate(
    *,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Take the next step now, without the hosts that are missing."
        ),
    ] = False,
    abort: Annotated[
        bool,
        typer.Option(
            "--abort",
            help="Turn back; no host loses its way back by that. Not once the old CA is gone.",
        ),
    ] = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Replace the CA, while all goes on: begin it, or say how it goes on.

    Example: nco ca rotate; then nco ca show, until it is done

    First all hosts learn to trust a new CA; then the NCO and they get certificates of it; then the
    old one, and its key, go. Each step waits until every host that is enrolled and not revoked
    has confirmed: a host that is away delays it (nco host revoke takes one out that never comes
    back). With --finish it does not wait: hosts that are named have to enrol anew. --abort helps
    them as long as there are two CAs; once the old one is gone there is no way back to it.
    """
    if finish and abort:
        raise CommandError("--finish goes on, --abort goes back: say one of them")
    step: Literal["begin", "finish", "abort"] = (
        "finish" if finish else "abort" if abort else "begin"
    )
    with connected(find_state(state), REPLACE_SECONDS) as nco:
        now = nco.call("GET", "/ca", CaView)
        change = CaChange(step=step, phase=now.phase, goes_back=now.goes_back)
        answer = _asked(nco, change)
    if json:
        cli_print.print_json(answer)
        return
    if answer.left_behind:
        cli_print.line("Not waited for; these have to enrol anew (`nco host token NAME`), unless")
        cli_print.line("they are connected and renew their certificates by themselves now:")
        _hosts(answer.left_behind)
    _print(answer)


def _asked(nco: NcoClient, change: CaChange) -> CaView:
    try:
        return nco.call("POST", "/ca", CaView, change)
    except Unreachable as error:
        if not isinstance(error.__cause__, httpx.TransportError):
            raise  # it was answered
        raise CommandError(
            f"{error}. It may have been done all the same: look at `nco ca show` before you ask "
            "again, as that would be for the step after it"
        ) from error


def _print(ca: CaView) -> None:
    rows = [
        (
            one.name,
            "issues" if one.issues else "is trusted",
            time.strftime("%Y-%m-%d", time.localtime(one.expires)),
            one.fingerprint,
        )
        for one in ca.authorities
    ]
    cli_print.table(("CA", "STATE", "EXPIRES", "SHA-256"), rows)
    if ca.phase is None:
        cli_print.line("it is not being replaced")
        return
    issuing, other = ca.authorities
    way = "going back: " if ca.goes_back else ""
    cli_print.line(way + PHASES[ca.phase].format(issuing=issuing.name, other=other.name))
    confirmed = ca.hosts - len(ca.missing)
    cli_print.line(f"confirmed by {confirmed} of {ca.hosts} hosts; {NEXT[ca.phase]}")
    _hosts(ca.missing)


def _hosts(hosts: list[CaHostView]) -> None:
    rows = [(one.host, "connected" if one.connected else "away", one.reason) for one in hosts]
    cli_print.table(("HOST", "AGENT", "WHY"), rows)
