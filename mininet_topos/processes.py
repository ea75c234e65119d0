"""Processes of the testbed: each logs to a file of its own and is ended by pid, never by name."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""How long a process may take to leave after SIGTERM before it is killed."""

KILL_SECONDS = 10.0
"""How long the kernel may take to end a process that was killed."""

WAIT_SECONDS = 60.0
"""After which something does not come any more, however busy the machine is."""


class TestbedError(RuntimeError):
    """Something of the testbed did not come up; the text says what, and what its log said."""

    __test__ = False  # not a test class, whatever pytest thinks of the name


@dataclass
class Process:
    """A running program, its name in the testbed and where its output goes."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """End it; raises TestbedError, see `end`."""
        end(self.name, self.popen)

    def kill(self) -> None:
        """End it at once; raises TestbedError, see `kill`."""
        kill(self.name, self.popen)


class Processes:
    """The processes that one testbed started, in the order of their start."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Process] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start `command`; `popen` may put it into a namespace. Its log is appended to."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            child = popen(
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
            )
        process = Process(name, child, log)
        self._running.append(process)
        return process

    def stop(self) -> None:
        """End all, the last started first; raises TestbedError once the others are stopped too."""
        faults = []
        while self._running:
            try:
                self._running.pop().stop()
            except TestbedError as error:
                faults.append(str(error))
        if faults:
            raise TestbedError("; ".join(faults))


def run(*command: str) -> str:
    """Run a program to its end and return what it printed; raises TestbedError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise TestbedError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def end(name: str, child: subprocess.Popen[bytes]) -> None:
    """End a child: SIGTERM, then SIGKILL where it does not leave in time; the log says so.

    Raises TestbedError where that is in vain.
    """
    if child.poll() is None:
        child.terminate()
    if not has_ended(child, STOP_SECONDS):
        log.warning(
            "process=%s pid=%d is still there %.0f s after SIGTERM (%s), and is killed",
            *(name, child.pid, STOP_SECONDS, doing(child.pid)),
        )
        kill(name, child)


def kill(name: str, child: subprocess.Popen[bytes]) -> None:
    """End a child at once (SIGKILL); raises TestbedError where the kernel does not do it."""
    if child.poll() is None:
        child.kill()
    if not has_ended(child, KILL_SECONDS):
        raise TestbedError(
            f"{name} (process {child.pid}) is still there {KILL_SECONDS:.0f} s after SIGKILL "
            f"({doing(child.pid)}): what it used cannot be taken away"
        )


def has_ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a child has ended, or does so within some seconds."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def doing(pid: int) -> str:
    """Return what a process is about, as the kernel says it: its state, and what it waits for."""
    folder = Path("/proc") / str(pid)
    try:
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
        waits = (folder / "wchan").read_text(encoding="ascii")
    except OSError as error:
        return f"unknown: {error.strerror}"
    state = next(line for line in status.splitlines() if line.startswith("State:"))
    return f"{' '.join(state.split())}, wchan {waits}"


def wait_until(
    condition: Callable[[], bool],
    what: str,
    seconds: float = WAIT_SECONDS,
    process: Process | None = None,
) -> None:
    """Wait for `condition`; raise TestbedError where it does not come true in time.

    With a `process`, its end is the end of waiting, and its log is shown.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        ended = process is not None and not process.running
        if ended or time.monotonic() > deadline:
            why = "ended" if ended else f"not within {seconds:.0f} s"
            shown = f"; log of {process.name}:\n{process.tail()}" if process else ""
            raise TestbedError(f"{what}: {why}{shown}")
        time.sleep(0.05)
