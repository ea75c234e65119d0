"""What must hold before the NCO starts; anything else ends ryu-manager with one line that says why.

Without it: eventlet listens with SO_REUSEPORT, so two controllers share a port and a switch lands
on either; two on one state folder push each other off the service's socket; and a folder that was
never initialised has its service restarted for ever.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import TextIO

from ryu import cfg
from ryu.ofproto.ofproto_common import OFP_SSL_PORT, OFP_TCP_PORT

from controller.config import StateFolder, find_state

_held: list[TextIO] = []
"""The lock's open file: closing it, or the end of the process, frees the lock."""


class CannotStartError(Exception):
    """The NCO cannot start here; the text says what to do."""


def check() -> None:
    """Raise SystemExit (status 1, one line) where the NCO cannot start; else hold the state folder.

    To be called once, when Ryu has parsed its options.
    """
    state = find_state(None)
    try:
        require_initialised(state)
        require_free_port(*_openflow_endpoint())
        _held.append(hold(state))
    except (CannotStartError, OSError) as error:
        raise SystemExit(f"the NCO cannot start: {error}") from None


def require_initialised(state: StateFolder) -> None:
    """Raise CannotStartError where `nco init` has not made the folder."""
    if not state.config.exists():
        raise CannotStartError(
            f"no NCO in {state.path}: run `nco init --state {state.path} --address ADDRESS` first"
        )


def require_free_port(host: str, port: int, option: str) -> None:
    """Raise CannotStartError where somebody listens there; what else is wrong, Ryu says.

    No SO_REUSEPORT, so that sharing is refused; SO_REUSEADDR, so that TIME_WAIT is not in the way.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStartError(
                    f"TCP port {port} is in use: another controller runs there; end it, or "
                    f"choose {option}"
                ) from error


def hold(state: StateFolder) -> TextIO:
    """Lock the folder for this ryu-manager until the returned file is closed.

    Raises CannotStartError where another one has it.
    """
    state.run.mkdir(mode=0o700, exist_ok=True)
    file = (state.run / "ryu.lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(20).strip() or "unknown"
        file.close()
        raise CannotStartError(
            f"another ryu-manager (process {holder}) serves {state.path}: end it, or set L45_STATE "
            "to another state folder"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _openflow_endpoint() -> tuple[str, int, str]:
    """Return host and port where Ryu is about to listen, and the option that sets the port."""
    conf = cfg.CONF
    if conf.ctl_privkey is not None and conf.ctl_cert is not None:
        port, option = conf.ofp_ssl_listen_port or OFP_SSL_PORT, "--ofp-ssl-listen-port"
    else:
        port, option = conf.ofp_tcp_listen_port or OFP_TCP_PORT, "--ofp-tcp-listen-port"
    return conf.ofp_listen_host, port, option
