"""What `make bench-nco` measures in: a real service, or all of the NCO, and processes of agents."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench import nco_identity
from controller import ca
from controller.cli_client import local
from controller.config import NcoConfig, StateFolder
from mininet_topos.ports import free_port
from mininet_topos.processes import Process, Processes, wait_until

ROOT = Path(__file__).parents[1]
MODULES = ROOT / "kernel_tap" / "modules"
SCRIPTS = Path(sysconfig.get_path("scripts"))

PADDING = 48 * 1024
"""Bytes put into each module, so that an artifact has some 50 KB, as the goals say."""

ANSWER_SECONDS = 120.0
ENDING_SECONDS = 40.0
"""More than the grace in which a service waits for another ryu-manager."""
POLL_SECONDS = 0.05
TOLD_EVERY = 2.0


class Failed(RuntimeError):
    """It could not be measured; the text says why."""


def padded_modules(folder: Path, names: Sequence[str]) -> None:
    """Copy modules to `folder`, each with data that makes its artifact as large as goals say."""
    for name in names:
        shutil.copytree(MODULES / name, folder / name)
        with (folder / name / "module.c").open("a", encoding="utf-8") as source:
            source.write(
                f"\n/* For the benchmark: the size of a large module. */\n"
                f'static const __u8 large[{PADDING}] __attribute__((used, section("bench"))) ='
                " { 1 };\n"
            )


def new_state(folder: Path, modules: Path) -> StateFolder:
    """Return a state folder whose service listens on the loopback interface."""
    state = StateFolder(folder)
    endpoint = f"127.0.0.1:{free_port()}"
    ca.initialise(state, NcoConfig(control=endpoint, listen=endpoint))
    with state.config.open("a", encoding="utf-8") as settings:
        settings.write(f'modules = "{modules}"\nlinger = 0\n')
    return state


@dataclass(frozen=True)
class Usage:
    """What a process has taken."""

    cpu: float
    """Seconds, of all its threads."""
    memory: int
    """Bytes that are resident."""


def usage(pid: int) -> Usage:
    """Return what a process has taken; raises Failed where it has ended."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        cpu = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError as error:
        raise Failed(f"the service has ended ({error})") from error
    return Usage(cpu, pages * os.sysconf("SC_PAGE_SIZE"))


class Nco:
    """The NCO that runs, spoken to as an operator does."""

    def __init__(self, state: StateFolder, process: Process) -> None:
        self._process = process
        self._http = local(state, ANSWER_SECONDS)
        wait_until(self._answers, "the NCO service answers", ANSWER_SECONDS, process)
        self.pid = int(self.get("/status")["pid"])

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return what the REST API answers."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Return what the REST API answers; raises Failed."""
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Failed(
                f"{method} {path}: {error!r}; log of {self._process.name}:\n{self._process.tail()}"
            ) from error
        if answer.is_error:
            raise Failed(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def usage(self) -> Usage:
        """Return what the service has taken."""
        return usage(self.pid)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return not self._http.get("/status").is_error
        return False


@contextlib.contextmanager
def running_nco(state: StateFolder, logs: Path, openflow_port: int | None) -> Iterator[Nco]:
    """Run the service; with a port, as the child of a `ryu-manager` that serves switches there."""
    processes = Processes(logs)
    if openflow_port is None:
        command = [sys.executable, "-m", "controller.service", "--state", str(state.path)]
        command += ["--grace", "0"]
    else:
        command = [str(SCRIPTS / "ryu-manager"), "--ofp-listen-host", "127.0.0.1"]
        command += ["--ofp-tcp-listen-port", str(openflow_port), str(ROOT / "apps" / "nco.py")]
    env = {**os.environ, "L45_STATE": str(state.path), "PYTHONWARNINGS": "ignore"}
    try:
        with contextlib.closing(Nco(state, processes.start("nco", command, env=env))) as nco:
            yield nco
    finally:
        processes.stop()
        _await_end(state)


def _await_end(state: StateFolder) -> None:
    """Wait until the service has let go of its folder: it is ryu-manager's child, not ours."""
    deadline = time.monotonic() + ENDING_SECONDS
    with state.lock.open("rb") as lock:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            time.sleep(0.05)
    raise Failed(f"the service that serves {state.path} does not end")


class Agents:
    """The processes with the emulated agents."""

    def __init__(self, port: int, credentials: Path, count: int, processes: int) -> None:
        self.count = count
        share, rest = divmod(count, processes)
        self._children: list[subprocess.Popen[str]] = []
        first = 0
        for number in range(processes):
            size = share + (number < rest)
            command = [sys.executable, "-m", "bench.nco_agents", str(port), str(credentials)]
            child = subprocess.Popen(
                [*command, str(first), str(size)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is ours, and ends them in order
            )
            self._children.append(child)
            first += size
        self.status()

    def close(self) -> None:
        """End them."""
        for child in self._children:
            assert child.stdin is not None  # noqa: S101 - a pipe, as asked for
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        for child in self._children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def command(self, word: str) -> list[dict[str, Any]]:
        """Have all processes do something; raises Failed where one has ended."""
        answers = []
        for child in self._children:
            assert child.stdin is not None  # noqa: S101 - a pipe, as asked for
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(word), file=child.stdin, flush=True)
        for child in self._children:
            assert child.stdout is not None  # noqa: S101 - a pipe, as asked for
            line = child.stdout.readline()
            if not line:
                raise Failed("a process of emulated agents has ended")
            answers.append(json.loads(line))
        return answers

    def status(self) -> list[dict[str, Any]]:
        """Return what each process says of its agents; raises Failed on what they complain of."""
        answers = self.command("status")
        for answer in answers:
            if answer["first_fault"]:
                raise Failed(f"{answer['faults']} faults, the first: {answer['first_fault']}")
        return answers

    def until(self, done: Callable[[Mapping[str, int]], int], what: str, seconds: float) -> float:
        """Wait until `done` counts all agents; return when the last one changed (monotonic)."""
        began = told = time.monotonic()
        while True:
            answers = self.status()
            states: Counter[str] = Counter()
            for answer in answers:
                states.update(answer["states"])
            count = done(states)
            if count >= self.count:
                return float(max(answer["changed_at"] for answer in answers))
            now = time.monotonic()
            if now - began > seconds:
                raise Failed(f"{what}: {count} of {self.count} after {seconds:.0f} s: {states}")
            if now - told > TOLD_EVERY:
                told = now
                tell(f"{what}: {count} of {self.count}")
            time.sleep(POLL_SECONDS)


def issue(state: StateFolder, credentials: Path, count: int) -> None:
    """Write the agents' certificates."""
    nco_identity.issue(
        state, credentials, count, lambda made: tell(f"certificates: {made} of {count}")
    )


def tell(text: str) -> None:
    """Show how far it is."""
    print(f"bench-nco: {text}", file=sys.stderr, flush=True)
