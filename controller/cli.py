"""`nco`: the operator's command."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from controller import (
    ca,
    cli_ca,
    cli_deploy,
    cli_labels,
    cli_monitor,
    cli_operations,
    cli_policy,
    cli_print,
    cli_trust,
)
from controller.cli_client import CommandError, connected, use_server
from controller.cli_options import INTENTS, NETWORK, WATCHING, HostName, Json, State, seconds
from controller.config import (
    KERNEL_TAP,
    ConfigError,
    NcoConfig,
    find_state,
    split_endpoint,
)
from controller.errors import Refusal
from controller.modules import ModuleLibrary
from wire import command_line
from wire.identity import CONTROL_PORT
from wire.manifest import explain

app = typer.Typer(
    name="nco",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""
    Customize application flows across a network.

    A first session:

      nco init --address 10.10.0.5            make the state folder and its CA
      ryu-manager apps/nco.py                 starts the service
      nco host token h1 --out h1.token        with which a host enrols, once
      dca enrol h1.token --credentials ...    on the host, then its agent: dca run
      nco host list                           hosts whose agents are connected
      nco apply dns_app_tag --name tag-dns --client h1:dig --server dns:dnsmasq
      nco show tag-dns
      nco revoke tag-dns

    The state folder is --state, else the environment's L45_STATE, else /var/lib/l45.
    """,
)
host_app = typer.Typer(no_args_is_help=True, help="Hosts and their credentials.")
module_app = typer.Typer(no_args_is_help=True, help="Modules that intents can use.")
for command in (cli_deploy.apply, cli_deploy.plan, cli_deploy.show, cli_deploy.revoke):
    app.command(rich_help_panel=INTENTS)(command)
app.add_typer(cli_operations.app)
app.add_typer(cli_monitor.app)
app.command(rich_help_panel=WATCHING)(cli_trust.challenge)
app.command(rich_help_panel=WATCHING)(cli_trust.audit)
app.add_typer(host_app, name="host", rich_help_panel=NETWORK)
app.add_typer(module_app, name="module", rich_help_panel=NETWORK)
app.add_typer(cli_policy.app, name="policy", rich_help_panel=NETWORK)
app.add_typer(cli_trust.token_app, name="token", rich_help_panel=NETWORK)
app.add_typer(cli_ca.app, name="ca", rich_help_panel=NETWORK)
host_app.command("token")(cli_trust.host_token)
host_app.command("label")(cli_labels.host_label)
host_app.command("revoke")(cli_trust.host_revoke)
host_app.command("forget")(cli_operations.host_forget)


@app.callback()
def where(
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            envvar="L45_SERVER",
            help="Call the NCO there by TLS, like https://10.10.0.5:4547. Left out: by the state "
            "folder, on this machine.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            envvar="L45_TOKEN_FILE",
            help="Has the token for --server; `nco token create` makes one.",
        ),
    ] = None,
    server_ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            envvar="L45_CA",
            help="The CA of --server: a copy of credentials/ca.pem of its state folder.",
        ),
    ] = None,
) -> None:
    """Say which NCO the commands are for."""
    use_server(server, token_file, server_ca)


@app.command(rich_help_panel=NETWORK)
def init(
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="ADDRESS[:PORT]",
            help="Where agents reach the NCO: an address of this machine. Left out, PORT is 4545.",
        ),
    ],
    ca_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Encrypt ca.key with the passphrase that is in FILE. Left out: its mode, 0600, "
            "is all that protects it.",
        ),
    ] = None,
    state: State = None,
) -> None:
    """Make the state folder: settings, certification authority, artifact signer.

    Example: nco init --address 10.10.0.5

    A folder that is one already is left as it is: its keys are what the agents trust.
    """
    folder = find_state(state)
    try:
        control, port = split_endpoint(address, CONTROL_PORT)
        config = NcoConfig(
            control=f"{control}:{port}",
            listen=f"0.0.0.0:{port}",
            ca_passphrase_file=ca_passphrase_file.absolute() if ca_passphrase_file else None,
        )
        ca.initialise(folder, config)
    except ValidationError as error:
        raise CommandError(explain(error)) from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    cli_print.line(f"{folder.path} is ready; agents will connect to {config.control}")
    cli_print.line(f"next: start the service, then nco host token NAME --state {folder.path}")


@app.command(rich_help_panel=WATCHING)
def status(state: State = None, json: Json = False) -> None:
    """Show whether the service runs, and what is connected to it.

    Example: nco status
    """
    with connected(find_state(state)) as client:
        answer = client.status()
    cli_print.print_json(answer) if json else cli_print.print_status(answer)


@host_app.command("add")
def host_add(
    name: HostName,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where to write to: a folder to be made.")
    ],
    valid: Annotated[
        str,
        typer.Option(
            "--valid",
            metavar="TIME",
            help="Within which the host has to connect for the first time, like 12h or 7d.",
        ),
    ] = "7d",
    state: State = None,
) -> None:
    """Write the credentials for a host's agent: ca.pem, cert.pem, key.pem, signer.pem.

    Example: nco host add h1 --out /tmp/h1; then move the folder to the host, by a way that keeps
    key.pem secret. The service need not run. `nco host token` is the better way where the host can
    reach the NCO: its key never leaves it. Within --valid the host has to connect once; from then
    on its agent renews by itself.
    """
    lifetime = timedelta(seconds=seconds("--valid", valid))
    credentials = ca.issue_host(find_state(state), name, out, lifetime)
    cli_print.line(f"credentials of {name} are in {credentials.folder}; key.pem is its secret")


@host_app.command("list")
def host_list(state: State = None, json: Json = False) -> None:
    """Show the hosts whose agents have connected at least once.

    Example: nco host list
    """
    with connected(find_state(state)) as client:
        answer = client.hosts()
    cli_print.print_json(answer) if json else cli_print.print_hosts(answer)


@module_app.command("list")
def module_list(state: State = None, json: Json = False) -> None:
    """Show the modules in the modules folder.

    Example: nco module list
    """
    with connected(find_state(state)) as client:
        answer = client.modules()
    cli_print.print_json(answer) if json else cli_print.print_modules(answer)


@app.command(rich_help_panel=NETWORK)
def dissector(
    module: Annotated[
        str, typer.Argument(metavar="MODULE", help="The module's name; `nco module list`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Where to write to. Left out: standard output."
        ),
    ] = None,
    state: State = None,
) -> None:
    """Write the Wireshark dissector of a module's wire format.

    Example: nco dissector dns_app_tag -o l45.lua; wireshark -X lua_script:l45.lua capture.pcapng
    """
    # Imported here: only this command needs the template engine.
    from dissectors.generate import generate  # noqa: PLC0415

    folder = find_state(state)
    modules = folder.load_config().modules if folder.config.exists() else KERNEL_TAP / "modules"
    text = generate(ModuleLibrary(modules).manifest(module))
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        cli_print.line(f"{out} is written; use it as `wireshark -X lua_script:{out}`")


def main() -> None:
    """Run the command; what it cannot do is one line on standard error and exit code 1, or 2."""
    try:
        command_line.run(app, "nco", cli_print.fault)
    except PermissionError as error:
        cli_print.fault(f"nco: {error.filename}: run as root, or as the user of the service")
        sys.exit(1)
    except OSError as error:
        cli_print.fault(
            f"nco: {error.filename}: {error.strerror}" if error.filename else str(error)
        )
        sys.exit(1)
    except ValidationError as error:
        cli_print.fault(f"nco: {explain(error)}")
        sys.exit(1)
    except (CommandError, ConfigError, Refusal, ValueError) as error:
        cli_print.fault(f"nco: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
