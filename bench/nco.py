"""`make bench-nco`: the NCO with 250, 1,000 and 10,000 agents, all on this machine.

The service is the real one, started by `ryu-manager apps/nco.py`, with its database on disk. The
agents are emulated (`bench/nco_agents.py`) in processes of their own; each has a certificate and a
TLS connection, and takes an artifact of 50 KB. A real switch asks the controller all the time how
to forward (`bench/nco_switch.py`). For each number of agents, with a new state folder:

* *connect*: all agents, at once, until the last one has applied its first desired state;
* *idle*: nothing happens but heartbeats;
* *deploy*: a module whose build is cached, until every host has confirmed that it sends or
  receives, and the service has committed that; no agent has the artifact yet;
* *rotate*: by another module, likewise;
* *storm*: all connections break in one moment, and all agents come back at once.

What fails is told at the end; everything else is measured and written nevertheless.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import nco_plot, nco_switch
from bench.nco_intents import FIRST, SECOND, Operator
from bench.nco_switch import Latencies, Watch
from bench.nco_world import (
    Agents,
    Failed,
    Nco,
    issue,
    new_state,
    padded_modules,
    running_nco,
    tell,
)
from bench.report import RESULTS, Row, publish
from controller.config import split_endpoint
from mininet_topos.ports import free_port
from mininet_topos.processes import TestbedError

STEPS = ("connect", "idle", "deploy", "rotate", "storm")
SPARE_FILES = 256
CONNECT_SECONDS = 240.0
PUSH_SECONDS = 120.0
REST_SECONDS = 3.0
"""After something big, before something is measured."""

LEAST_SECONDS = 30.0
"""For one number of agents; with less it is not begun."""

FAILURES = (Failed, TestbedError, OSError, subprocess.SubprocessError)
"""What ends the measurement of one number of agents, and not that of the others."""

MIN_PACKETS = 20
"""Packet-ins below which no percentile is told."""


@dataclass(frozen=True)
class Options:
    """What is to be measured."""

    agents: Sequence[int]
    runs: int
    only: Sequence[str]
    processes: int
    with_switch: bool
    idle_seconds: float
    results: Path
    """The folder that they are written to."""
    ends: float
    """When all of it should be done (monotonic)."""

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.ends - time.monotonic()


@dataclass
class Measured:
    """The numbers of one case, by metric and unit."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    packets: dict[str, Latencies] = field(default_factory=lambda: defaultdict(Latencies))
    failures: list[str] = field(default_factory=list)
    """What could not be measured, and why."""

    def failed(self, what: str) -> None:
        """Note what could not be measured."""
        self.failures.append(what)
        tell(f"FAILED: {what}")

    def add(self, metric: str, unit: str, value: float) -> None:
        """Note a number."""
        self.values[metric, unit].append(value)
        tell(f"  {metric}: {value:.4g} {unit}")

    def rows(self, case: str) -> Iterator[Row]:
        """Return them as rows; a percentile is one of all runs together."""
        for (metric, unit), values in self.values.items():
            yield Row.of(case, metric, unit, values)
        for step, found in self.packets.items():
            for kind, seconds in (("packet-in", found.controller), ("host to entry", found.host)):
                if len(seconds) >= MIN_PACKETS:
                    yield _percentile(case, f"{step}: {kind}, p50", seconds, 50)
                    yield _percentile(case, f"{step}: {kind}, p99", seconds, 99)
            yield Row.of(case, f"{step}: packet-ins without an answer", "packets", [found.lost])


def _percentile(case: str, metric: str, seconds: Sequence[float], percent: int) -> Row:
    milliseconds = [1000 * one for one in seconds]
    value = statistics.quantiles(milliseconds, n=100, method="inclusive")[percent - 1]
    all_of_them = Row.of(case, metric, "ms", milliseconds)
    return replace(all_of_them, value=Row.of(case, metric, "ms", [value]).value)


class Bench:
    """One NCO with one number of agents."""

    def __init__(
        self, nco: Nco, agents: Agents, watch: Watch | None, options: Options, measured: Measured
    ) -> None:
        """Numbers go into `measured` as they come."""
        self._measured = measured
        self._nco = nco
        self._agents = agents
        self._watch = watch
        self._options = options
        self._count = agents.count
        self._operator = Operator(nco, agents)

    def run(self) -> None:
        """Measure what was asked for."""
        before, began = self._nco.usage().memory, time.monotonic()
        with self._watched("connect"):
            self._connect("connect")
        to_connect = time.monotonic() - began
        time.sleep(REST_SECONDS)
        if self._wants("idle"):
            self._idle(before)
        if self._wants("deploy") or self._wants("rotate"):
            self._operator.build()
            self._pushes(reserve=to_connect if self._wants("storm") else 0.0)
        if self._wants("storm"):
            self._agents.command("drop")
            with self._watched("storm"):
                self._connect("storm")

    def _pushes(self, reserve: float) -> None:
        """Push as often as asked for, or as there is time for with `reserve` seconds after it."""
        took = 0.0
        for number in range(self._options.runs):
            if number and self._options.left < took + reserve:
                tell(f"{self._options.runs - number} pushes are left out: the time is over")
                return
            tell(f"push {number + 1} of {self._options.runs}")
            began = time.monotonic()
            self._push()
            took = time.monotonic() - began

    def _wants(self, step: str) -> bool:
        return step in self._options.only

    def _connect(self, step: str) -> None:
        began, cpu = time.monotonic(), self._nco.usage().cpu
        self._agents.command("connect")
        ended = self._agents.until(lambda states: states["plain"], step, CONNECT_SECONDS)
        self._measured.add(f"{step}: all agents", "s", ended - began)
        cpu = self._nco.usage().cpu - cpu
        self._measured.add(f"{step}: service CPU per agent", "ms", cpu * 1e3 / self._count)

    def _idle(self, memory_before: int) -> None:
        taken = self._nco.usage()
        self._measured.add(
            "idle: memory per agent", "KB", (taken.memory - memory_before) / 1e3 / self._count
        )
        with self._watched("idle"):
            time.sleep(self._options.idle_seconds)
        cpu = (self._nco.usage().cpu - taken.cpu) / self._options.idle_seconds
        self._measured.add("idle: service CPU per agent", "us/s", cpu * 1e6 / self._count)

    def _push(self) -> None:
        """Deploy, rotate, and take all of it away again."""
        self._agents.command("forget")
        self._timed("deploy", self._operator.deploy)
        self._checked_artifacts()
        time.sleep(REST_SECONDS)
        if self._wants("rotate"):
            self._timed("rotate", self._operator.rotate)
            time.sleep(REST_SECONDS)
        self._operator.revoke(PUSH_SECONDS)

    def _timed(self, step: str, do: Callable[[float], None]) -> None:
        """Do something until it is confirmed; what the bench asks for afterwards does not count."""
        with self._watched(step):
            began, cpu = time.time(), self._nco.usage().cpu
            do(PUSH_SECONDS)
            cpu = self._nco.usage().cpu - cpu
            ended = self._operator.confirmed_at(PUSH_SECONDS)
        self._measured.add(f"{step}: confirmed", "s", ended - began)
        self._measured.add(f"{step}: service CPU per agent", "ms", cpu * 1e3 / self._count)

    def _checked_artifacts(self) -> None:
        taken = sum(answer["artifacts"] for answer in self._agents.status())
        if taken != self._count:
            raise Failed(f"{taken} artifacts came to {self._count} agents")

    @contextlib.contextmanager
    def _watched(self, step: str) -> Iterator[None]:
        """Add the packet-ins of the block to those of a step."""
        if self._watch is None:
            yield
            return
        self._watch.take()
        yield
        found, all_of_it = self._watch.take(), self._measured.packets[step]
        all_of_it.host += found.host
        all_of_it.controller += found.controller
        all_of_it.lost += found.lost


def _measure(folder: Path, count: int, options: Options, measured: Measured) -> None:
    """Measure one number of agents in a new folder."""
    modules = folder / "modules"
    padded_modules(modules, (FIRST, SECOND))
    state = new_state(folder / "state", modules)
    issue(state, folder / "agents", count)
    (folder / "logs").mkdir()
    _, port = split_endpoint(state.load_config().listen)
    with contextlib.ExitStack() as stack:
        watch, openflow_port = None, None
        if options.with_switch:
            openflow_port = _try_switch(stack, measured)
        nco = stack.enter_context(running_nco(state, folder / "logs", openflow_port))
        agents = Agents(port, folder / "agents", count, options.processes)
        stack.callback(agents.close)
        if openflow_port is not None:
            watch = stack.enter_context(contextlib.closing(Watch(openflow_port)))
        Bench(nco, agents, watch, options, measured).run()
        if watch is not None and not any(one.controller for one in measured.packets.values()):
            measured.failed("packet-ins: not one was answered; is Open vSwitch still running?")


def _try_switch(stack: contextlib.ExitStack, measured: Measured) -> int | None:
    """Have a switch until `stack` ends; return its controller's port, None where it cannot be."""
    port = free_port()
    try:
        stack.enter_context(nco_switch.switch(port))
    except FAILURES as error:
        measured.failed(f"packet-ins: there is no switch: {error}")
        return None
    return port


def _check_files(most: int) -> None:
    """Have room for a connection an agent; raises Failed where the system gives none."""
    needed = most + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Failed(
            f"{most} agents need {needed} open files, the hard limit is {hard}: "
            f"raise it (`ulimit -Hn {needed}` as root) or measure fewer (--agents)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _plot(rows: Sequence[Row], folder: Path) -> None:
    def points(metric: str) -> list[nco_plot.Point]:
        found = [(int(row.case.split()[0]), row.value) for row in rows if row.metric == metric]
        return sorted(found)

    nco_plot.draw(folder / "nco.png", points("deploy: confirmed"), points("rotate: confirmed"))


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="make bench-nco", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--agents", default="250,1000,10000", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="pushes of each (default 3)")
    parser.add_argument("--only", default=",".join(STEPS), help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=2, help="of agents (default 2)")
    parser.add_argument("--idle", type=float, default=15, help="seconds (default 15)")
    parser.add_argument(
        "--minutes", type=float, default=8, help="pushes are left out for it (default 8)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="for nco.json and nco.png (default: bench/results)",
    )
    parser.add_argument("--no-switch", action="store_true", help="the service alone, not as root")
    found = parser.parse_args(arguments)
    only = found.only.split(",")
    if unknown := set(only) - set(STEPS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: there are {', '.join(STEPS)}")
    try:
        agents = [int(count) for count in found.agents.split(",")]
    except ValueError:
        parser.error("--agents: numbers with commas between them")
    if min(agents) < 2:
        parser.error("--agents: a client and a server are two")
    with_switch = not found.no_switch and nco_switch.is_possible()
    if not with_switch:
        tell("no switch: packet-ins are not measured (that needs root)")
    ends = time.monotonic() + 60 * found.minutes
    return Options(
        agents,
        found.runs,
        only,
        found.processes,
        with_switch,
        found.idle,
        found.results,
        ends,
    )


def _measure_all(options: Options) -> tuple[list[Row], list[str]]:
    """Return the rows of all numbers of agents, and what is missing in them."""
    _check_files(max(options.agents))
    rows: list[Row] = []
    failures: list[str] = []
    for count in options.agents:
        tell(f"{count} agents")
        measured = Measured()
        try:
            if options.left < LEAST_SECONDS:
                raise Failed("the time is over (--minutes)")
            with tempfile.TemporaryDirectory(prefix="l45-bench-") as name:
                _measure(Path(name), count, options, measured)
        except FAILURES as error:
            measured.failed(str(error))
        rows += measured.rows(f"{count} agents")
        failures += [f"{count} agents: {what}" for what in measured.failures]
    return rows, failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write `nco.json` and `nco.png` into the folder of results."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        rows, failures = _measure_all(options)
    except FAILURES as error:
        print(f"bench-nco: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench-nco: given up; nothing was written", file=sys.stderr)
        return 130
    if rows:
        publish("nco", "The NCO with emulated agents, medians", rows, options.results)
        _plot(rows, options.results)
    for failure in failures:
        print(f"bench-nco: not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
