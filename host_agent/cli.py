"""The command `dca`: run the agent of this host, prepare its kernel, take everything away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

import typer
from rich.console import Console

from host_agent import cli_print, taps
from host_agent import enrol as enrolment
from host_agent.agent import Agent
from host_agent.channel import Address
from host_agent.enrol import EnrolmentError
from host_agent.metrics import AgentMetrics
from host_agent.privileges import RUN, needs_root
from host_agent.store import Store, StoreError
from host_agent.tap import TapError
from host_agent.taps import Choice, Kind, Taps
from wire import command_line
from wire.enrol import Token, TokenError
from wire.identity import CONTROL_PORT, Credentials, IdentityError

log = logging.getLogger("dca")

MAX_TOKEN = 4096
"""Characters of a file that are looked at for a token."""

WIDE = 200
"""Columns when the output is not a terminal."""

output = Console(
    width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=True, emoji=False
)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "The agent of a host (DCA): customizes what its applications send, as the NCO says.\n\n"
        "`dca run` loads the tap by itself where it can. In Mininet, whose hosts have their own "
        "/sys, it cannot: `dca tap load` comes first, from the main namespace, once in each boot."
    ),
)
tap_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "What customizes, in this kernel, for all its network namespaces: eBPF programs (bpf, for "
        "UDP), the kernel module l45.ko (kmod, for UDP and TCP)."
    ),
)
app.add_typer(tap_app, name="tap")

RunDir = Annotated[
    Path,
    typer.Option(
        "--run-dir",
        readable=False,  # typer's own check would come before ours of root
        metavar="DIR",
        help="Folder of what taps keep for this kernel: the same for all its network namespaces.",
    ),
]
TapChoice = Annotated[
    Choice, typer.Option("--tap", help="bpf: UDP; kmod: UDP and TCP; auto: all that work here.")
]
KmodFile = Annotated[
    Path | None,
    typer.Option(
        "--kmod",
        metavar="FILE",
        readable=False,
        help="The l45.ko to load. Left out: the one that is installed.",
    ),
]


Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def _address(text: str) -> Address:
    """Return the address in HOST[:PORT]."""
    try:
        parts = urlsplit(f"//{text}")
        if not parts.hostname or parts.path or parts.username is not None:
            raise ValueError("it has no host")
        parts.hostname.encode("idna")
        return Address(parts.hostname, parts.port or CONTROL_PORT)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not HOST or HOST:PORT: {error}") from error


def _listener(address: Address) -> socket.socket:
    try:
        return socket.create_server((address.host, address.port))
    except OSError as error:
        _fail(OSError(f"cannot listen for requests of metrics on {address}: {error.strerror}"))


def _metrics_address(text: str) -> Address:
    """Return the address in ADDRESS:PORT."""
    address = _address(text)
    if not text.endswith(f":{address.port}"):
        raise typer.BadParameter(f"{text!r} is not ADDRESS:PORT, like 127.0.0.1:9546")
    return address


@app.command()
def run(
    *,
    nco: Annotated[
        Address,
        typer.Option(
            parser=_address,
            metavar="HOST[:PORT]",
            help=f"Where the NCO is, like 192.0.2.5. Left out, PORT is {CONTROL_PORT}.",
        ),
    ],
    credentials: Annotated[
        Path,
        typer.Option(
            metavar="DIR", readable=False, help="What `dca enrol` (or `nco host add`) wrote for it."
        ),
    ],
    state: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            readable=False,
            help="Where the agent keeps what it has; made if need be, and this host's alone.",
        ),
    ],
    tap: Annotated[
        Choice,
        typer.Option(
            help="bpf: UDP; kmod: UDP and TCP; auto: all that work here. The NCO is told why "
            "others do not."
        ),
    ] = "auto",
    kmod: KmodFile = None,
    run_dir: RunDir = RUN,
    metrics: Annotated[
        Address | None,
        typer.Option(
            parser=_metrics_address,
            metavar="ADDRESS:PORT",
            help="Where Prometheus finds metrics, like 127.0.0.1:9546. Left out: nowhere.",
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="How much is logged, to standard error."),
    ] = "info",
) -> None:
    """Run the agent of this network namespace, until SIGTERM or Ctrl-C.

    Example: dca run --nco 192.0.2.5 --credentials /etc/l45 --state /var/lib/l45-agent

    The host's name is the common name of its certificate. Customizations outlive the agent: it
    adopts them when it starts again, and `dca reset` takes them away.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        working, faults = taps.usable(taps.kinds(tap, run_dir, kmod))
        drivers = Taps([kind.driver() for kind in working], faults)
        counted = AgentMetrics()
        agent = Agent(nco, Credentials(credentials), Store(state), drivers, counted)
    except (IdentityError, StoreError, TapError) as error:
        _fail(error)
    listener = _listener(metrics) if metrics else None
    asyncio.run(_serve(agent, counted, listener))


@app.command()
def enrol(
    token: Annotated[
        typer.FileText,
        typer.Argument(metavar="FILE", help="Has the token (`nco host token`); -: standard input."),
    ],
    credentials: Annotated[
        Path,
        typer.Option(metavar="DIR", readable=False, help="Where to write them; made if need be."),
    ],
) -> None:
    """Get this host's credentials from its NCO, with a token that is good once.

    Example: dca enrol alpha.token --credentials /etc/l45

    The private key is made here and never leaves this host. The NCO is who it should be, or the
    token is not sent: it carries the fingerprint of the NCO's certification authority.
    """
    folder = Credentials(credentials)
    try:
        shown = Token.decode(token.read(MAX_TOKEN))
        granted = asyncio.run(enrolment.enrol(shown, folder))
    except UnicodeDecodeError:
        _fail(TokenError(f"{token.name} is no text, so it has no enrolment token"))
    except (TokenError, EnrolmentError, OSError) as error:
        _fail(error)
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(granted.expires))
    output.print(f"Credentials of host {shown.host} are in {credentials}, valid until {until};")
    output.print("the agent renews them by itself:")
    output.print(f"  dca run --nco {granted.nco} --credentials {credentials} --state DIR")


@app.command()
def reset(tap: TapChoice = "auto", run_dir: RunDir = RUN) -> None:
    """Take this network namespace's customizations away; its applications go on, plain.

    Example: dca reset

    The agent of this namespace should not run then: its NCO would only want them again.
    """
    taken = 0
    with _tap_work():
        for kind in _installed(tap, run_dir):
            driver = kind.driver()
            taken += len(driver.customizations())
            driver.stop()
    output.print(f"Customizations taken away from this network namespace: {taken}")


@tap_app.command()
def load(tap: TapChoice = "auto", kmod: KmodFile = None, run_dir: RunDir = RUN) -> None:
    """Load what customizes into this kernel; loaded already, nothing changes.

    Example: dca tap load

    Exits with 1 where no tap works here.
    """
    with _tap_work():
        working, faults = taps.usable(taps.kinds(tap, run_dir, kmod))
        for name, fault in faults.items():
            output.print(f"The {name} tap does not work here: {fault}")
        for kind in working:
            loaded_before = kind.installed()
            kind.install()
            done = "was loaded already" if loaded_before else "is loaded now"
            output.print(f"The {kind.name} tap {done}.")
    if not working:
        raise typer.Exit(1)


@tap_app.command()
def unload(tap: TapChoice = "auto", run_dir: RunDir = RUN) -> None:
    """Take what customizes out of this kernel, and with it every host's customizations.

    Example: dca tap unload

    The kmod tap stays where another network namespace has customizations: `dca reset` there first.
    """
    with _tap_work():
        loaded = _installed(tap, run_dir)
        for kind in loaded:
            kind.uninstall()
            output.print(f"The {kind.name} tap is unloaded, with all its customizations.")
    if not loaded:
        output.print("No tap was loaded.")


@tap_app.command()
def status(tap: TapChoice = "auto", run_dir: RunDir = RUN, json: Json = False) -> None:
    """Show what is loaded, and the customizations of this network namespace with counters.

    Example: dca tap status

    Exits with 1 where nothing is loaded.
    """
    with _tap_work():
        loaded = [
            (kind.name, kind.status(), kind.driver().customizations())
            for kind in _installed(tap, run_dir)
        ]
    if json:
        cli_print.as_json(
            [{"tap": name, **asdict(whole), "here": here} for name, whole, here in loaded]
        )
    else:
        for name, whole, here in loaded:
            output.print(cli_print.summary(name, whole))
            if here:
                output.print(cli_print.customizations(here))
    if not loaded and not json:
        output.print("No tap is loaded (`dca tap load` does it).")
    if not loaded:
        raise typer.Exit(1)


@tap_app.command()
def flows(tap: TapChoice = "auto", run_dir: RunDir = RUN, json: Json = False) -> None:
    """Show the sockets of this network namespace that have customizations.

    Example: dca tap flows
    """
    with _tap_work():
        each = [flow for kind in _installed(tap, run_dir) for flow in kind.driver().flows()]
    if json:
        cli_print.as_json(each)
        return
    output.print(cli_print.flows(each) if each else "No socket has customizations.")


def main() -> None:
    """Run the command line."""
    command_line.run(app, "dca", _say)


async def _serve(agent: Agent, metrics: AgentMetrics, listener: socket.socket | None) -> None:
    """Run the agent until a signal asks it to leave; show its metrics where `listener` is."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:
            if listener is not None:
                tasks.create_task(metrics.serve(listener))
            await agent.run()
    log.info("agent stopped; the customizations stay in the kernel")


def _installed(tap: Choice, run_dir: Path) -> list[Kind]:
    return [kind for kind in taps.kinds(tap, run_dir) if kind.installed()]


@contextlib.contextmanager
def _tap_work() -> Iterator[None]:
    """Say in one line why the kernel's part cannot be done, if so."""
    try:
        if reason := needs_root():
            raise TapError(reason)
        yield
    except (TapError, OSError) as error:
        _fail(error)


def _fail(reason: Exception) -> NoReturn:
    _say(f"dca: {reason}")
    raise typer.Exit(1)


def _say(text: str) -> None:
    errors.print(text, markup=False, style="red")
