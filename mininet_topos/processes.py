"""Processes of the testbed: each logs to a file of its own and is ended by pid, never by name."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 5.0
"""How long a process may take to leave after SIGTERM before it is killed."""


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
        """End it: SIGTERM, then SIGKILL if it does not leave."""
        if self.running:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self.running:
            self.popen.kill()
        self.popen.wait()


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
        """End all, the last started first."""
        while self._running:
            self._running.pop().stop()


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = 20.0, process: Process | None = None
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
