"""The command `dca`: run the agent of this host, prepare its kernel, take everything away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Column, Table

from host_agent import bpf_tap
from host_agent.agent import Agent
from host_agent.channel import Address
from host_agent.privileges import RUN
from host_agent.store import Store, StoreError
from host_agent.tap import TapError
from wire.identity import CONTROL_PORT, Credentials, IdentityError
from wire.messages import Status

log = logging.getLogger("dca")
output = Console(highlight=False, soft_wrap=True)
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
    help="The eBPF programs of this kernel: one set serves all its network namespaces.",
)
app.add_typer(tap_app, name="tap")

RunDir = Annotated[
    Path,
    typer.Option(
        "--run-dir",
        readable=False,  # typer's own check would come before ours of root
        help="Folder of what is pinned in the kernel; all hosts' same.",
    ),
]


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


@app.command()
def run(
    *,
    nco: Annotated[
        Address,
        typer.Option(
            parser=_address,
            metavar="HOST[:PORT]",
            help=f"Where the NCO listens; port {CONTROL_PORT} if left out.",
        ),
    ],
    credentials: Annotated[
        Path,
        typer.Option(
            metavar="DIR", readable=False, help="What `nco host add NAME` wrote for this host."
        ),
    ],
    state: Annotated[
        Path,
        typer.Option(
            metavar="DIR", readable=False, help="Kept between runs and boots; this host's alone."
        ),
    ],
    tap: Annotated[
        Literal["auto", "bpf"],
        typer.Option(help="auto: one that works here; where none does, the NCO is told why."),
    ] = "auto",
    run_dir: RunDir = RUN,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Logs go to stderr.")
    ] = "info",
) -> None:
    """Run the agent of this network namespace, until SIGTERM or Ctrl-C.

    The host's name is the common name of its certificate. Customizations outlive the agent: it
    adopts them when it starts again, and `dca reset` takes them away.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        if reason := bpf_tap.needs_root():
            raise TapError(reason)
        no_tap = bpf_tap.unavailable()
        if no_tap and tap != "auto":
            raise TapError(no_tap)
        driver = None if no_tap else bpf_tap.BpfTap(run_dir)
        agent = Agent(nco, Credentials(credentials), Store(state), driver, no_tap)
    except (IdentityError, StoreError, TapError) as error:
        _fail(error)
    asyncio.run(_serve(agent))


@app.command()
def reset(run_dir: RunDir = RUN) -> None:
    """Take this network namespace's customizations away; its applications go on, plain.

    The agent of this namespace should not run then: its NCO would only want them again.
    """
    with _tap_work():
        tap = bpf_tap.BpfTap(run_dir)
        taken = len(tap.customizations()) if bpf_tap.installed(run_dir) else 0
        tap.stop()
    output.print(f"Customizations taken away from this network namespace: {taken}")


@tap_app.command()
def load(run_dir: RunDir = RUN) -> None:
    """Load the eBPF programs into this kernel; loaded already, nothing changes."""
    with _tap_work():
        loaded_before = bpf_tap.installed(run_dir)
        bpf_tap.install(run_dir)
    output.print("The tap was loaded already." if loaded_before else "The tap is loaded now.")


@tap_app.command()
def unload(run_dir: RunDir = RUN) -> None:
    """Take the eBPF programs out of this kernel, and with them every host's customizations."""
    with _tap_work():
        was_loaded = bpf_tap.installed(run_dir)
        bpf_tap.uninstall(run_dir)
    gone = "The tap is unloaded, and with it every host's customizations."
    output.print(gone if was_loaded else "The tap was not loaded.")


@tap_app.command()
def status(run_dir: RunDir = RUN) -> None:
    """Show what is loaded, and the customizations of this network namespace with counters.

    Exits with 1 where nothing is loaded.
    """
    with _tap_work():
        whole = bpf_tap.status(run_dir)
        here = bpf_tap.BpfTap(run_dir).customizations() if whole.installed else []
    if not whole.installed:
        output.print("The tap is not loaded (`dca tap load` does it).")
        raise typer.Exit(1)
    output.print(
        f"The tap is loaded: {whole.customizations} customizations in {whole.namespaces} network "
        f"namespaces; modules: {', '.join(whole.modules) or 'none'}"
    )
    if here:
        output.print(_table(here))


def main() -> None:
    """Run the command line."""
    app()


async def _serve(agent: Agent) -> None:
    """Run the agent until a signal asks it to leave."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await agent.run()
    log.info("agent stopped; the customizations stay in the kernel")


def _table(statuses: list[Status]) -> Table:
    table = Table(Column("customization", no_wrap=True), "module", "acts on", "sent", "received")
    for one in statuses:
        ways = [way for way, on in (("receive", one.receive), ("send", one.send)) if on]
        counted = str(one.counters.sent), str(one.counters.received)
        table.add_row(one.id, one.module, ", ".join(ways) or "nothing", *counted)
    return table


@contextlib.contextmanager
def _tap_work() -> Iterator[None]:
    """Say in one line why the kernel's part cannot be done, if so."""
    try:
        if reason := bpf_tap.unavailable():
            raise TapError(reason)
        yield
    except (TapError, OSError) as error:
        _fail(error)


def _fail(reason: Exception) -> NoReturn:
    errors.print(f"dca: {reason}", markup=False, style="red")
    raise typer.Exit(1)
