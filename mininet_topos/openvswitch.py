"""Open vSwitch for tests and the demo, on machines where no service manager runs it.

By hand: `python -m mininet_topos.openvswitch COMMAND...` runs a command with Open vSwitch up.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mininet_topos.processes import TestbedError, doing, end, has_ended, run
from mininet_topos.two_site import kernel_datapath

log = logging.getLogger(__name__)

RUN = Path("/var/run/openvswitch")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
START_SECONDS = 60.0
LEAVE_SECONDS = 10.0
"""How long a daemon may take to leave when it is asked to, before it gets a signal."""

LOCK = "\0l45-testbed"
TAKEN = "another demo, lab or test has its network here"
OTHERS_SECONDS = 120.0
"""How long another one may take to end; most do so within a minute."""

DATABASE = "ovsdb-server"
SWITCH = "ovs-vswitchd"


class OpenVSwitchError(TestbedError):
    """Open vSwitch cannot be started here; the text says what to do."""


def datapath_type() -> str:
    """Return the `datapath_type` that bridges should have on this machine."""
    return "system" if kernel_datapath() else "netdev"


@contextlib.contextmanager
def ensure_running() -> Iterator[None]:
    """Have `ovsdb-server` and `ovs-vswitchd` at their usual places while the context lasts.

    What runs already is used and left running. What had to be started has an empty database of
    its own, and is stopped at the end. Raises OpenVSwitchError where it cannot be started, or where
    what runs serves another network namespace.
    """
    with contextlib.ExitStack() as stack:
        if not _runs(DATABASE):
            stack.enter_context(_run_folder())
            database = stack.enter_context(_new_database())
            remote = f"--remote=punix:{RUN / 'db.sock'}"
            stack.enter_context(_daemon(DATABASE, [str(database), remote]))
            run("ovs-vsctl", "--no-wait", "init")
        if not _runs(SWITCH):
            stack.enter_context(_daemon(SWITCH, [f"unix:{RUN / 'db.sock'}"]))
        yield


@contextlib.contextmanager
def alone(seconds: float = OTHERS_SECONDS) -> Iterator[None]:
    """Be the only one on this machine with a network of ours.

    Waits up to `seconds` for another one to end, and says so; raises OpenVSwitchError where it does
    not. There are two locks, and no file is left of them, whatever ends this process. Bridges have
    fixed names in a network namespace: so has an abstract socket. Daemons have fixed places in the
    file system, which another network namespace can share: so has the folder above them.
    """
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _lock(lambda: name.bind(LOCK), deadline)
        folder = os.open(RUN.parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        _lock(lambda: fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB), deadline)
        yield


def _lock(take: Callable[[], None], deadline: float) -> None:
    is_told = False
    while True:
        try:
            return take()
        except OSError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise OpenVSwitchError(f"{TAKEN}: wait for its end") from error
            if not is_told:
                log.warning("%s: waiting %.0f s at most for its end", TAKEN, left)
                is_told = True
            time.sleep(min(0.2, left))


def _answers(daemon: str) -> bool:
    command = ["ovs-appctl", "--timeout=5", f"--target={daemon}", "version"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError as error:
        raise OpenVSwitchError(f"{error}; install the package openvswitch-switch") from error


def _runs(daemon: str) -> bool:
    """Whether a daemon runs; raises OpenVSwitchError where it does so in another namespace.

    Its socket is a file, and answers in all network namespaces that share the file system.
    """
    if not _answers(daemon):
        return False
    try:
        pid = int((RUN / f"{daemon}.pid").read_text(encoding="ascii"))
        is_here = Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net")
    except (OSError, ValueError):
        return True  # not for us to see
    if not is_here:
        raise OpenVSwitchError(
            f"{daemon} (process {pid}) runs in another network namespace: wait for its end, or "
            f"mount a tmpfs of your own on {RUN.parent.resolve()}"
        )
    return True


@contextlib.contextmanager
def _run_folder() -> Iterator[None]:
    """Make the folder of pid files and sockets, and take it away if it was not there."""
    if RUN.exists():
        yield
        return
    RUN.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(RUN, ignore_errors=True)


@contextlib.contextmanager
def _new_database() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="l45-ovs-") as folder:
        database = Path(folder) / "conf.db"
        run("ovsdb-tool", "create", str(database), str(SCHEMA))
        yield database


@contextlib.contextmanager
def _daemon(name: str, arguments: list[str]) -> Iterator[None]:
    """Run a daemon as our child, in a session of its own: Ctrl-C is for us, we stop it in order."""
    command = [name, *arguments, "--pidfile", "-vconsole:emer", "-vsyslog:off"]
    try:
        process = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        raise OpenVSwitchError(f"{error}; install the package openvswitch-switch") from error
    try:
        _await_answer(name, process)
        log.info("started daemon=%s pid=%d", name, process.pid)
        yield
    finally:
        _stop(name, process)


def _await_answer(name: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(name):
        if process.poll() is not None:
            raise OpenVSwitchError(f"{name} ended with status {process.returncode}; run as root?")
        if time.monotonic() > deadline:
            raise OpenVSwitchError(f"{name} does not answer after {START_SECONDS:.0f} s")
        time.sleep(0.1)


def _stop(name: str, process: subprocess.Popen[bytes]) -> None:
    """End a daemon; `ovs-vswitchd` is asked to take its kernel datapaths away first."""
    if process.poll() is None:
        arguments = ["exit", "--cleanup"] if name == SWITCH else ["exit"]
        asked = subprocess.run(
            ["ovs-appctl", "--timeout=5", f"--target={name}", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if not has_ended(process, 0 if asked.returncode else LEAVE_SECONDS):
            log.warning(
                "daemon=%s pid=%d does not leave when asked (%s): %s",
                *(name, process.pid, doing(process.pid), asked.stderr.strip() or "it said yes"),
            )
    end(name, process)


def main() -> int:
    """Run the command given as arguments while Open vSwitch runs; return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ensure_running():
            return subprocess.run(sys.argv[1:], check=False).returncode
    except OpenVSwitchError as error:
        log.error("openvswitch: %s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
