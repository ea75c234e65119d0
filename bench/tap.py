"""`make bench-tap`: what the taps cost, beside the same kernel without any.

`bench/tap.sh` measures, and says how. It runs in this kernel where that loads modules, else in a
guest (docs/vm.md): with KVM if there is any, else in one that QEMU emulates and that is
**counted**. It has one processor, whose clock does not go with the machine's but with its
instructions: each takes one nanosecond. What others do on the machine changes nothing there; but
an instruction that waits for memory costs as much as one that adds.

Ratios compare what was measured in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import RESULTS, Row, publish, replaced
from controller.build import Builder, BuildError
from controller.plan import Platform
from host_agent import kernel_modules
from tests.vm import kernels, machine
from tests.vm.kernels import Kernel
from wire.manifest import load, pack_parameters

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "bench" / "tap.sh"
PROFILE = "tap-profile.txt"
MODULES = ROOT / "kernel_tap" / "modules"
PROGRAMS = ROOT / "build" / "bench"
COMPILE_SECONDS = 120.0
GUEST_SECONDS = 3600

# As it counts, a string instruction takes one for each byte with ERMS, else one for 8.
COUNTED = ("-smp", "1", "-icount", "shift=0", "-cpu", "max,-erms,-fsrm")

CASES = ("streams", "datagrams", "names", "programs", "at_rest")
BARE = "bare"
MEGABYTE = 1_000_000


class Failed(RuntimeError):
    """It could not be measured; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where it is measured, and how much."""

    name: str
    megabytes: int
    """Sent by a transfer."""
    samples: int
    """A second, of the profile."""
    is_counted: bool = False
    kernel: Kernel | None = None
    """Of the guest."""

    @property
    def time(self) -> str:
        """The unit of time."""
        return "instructions" if self.is_counted else "ns"


Measured = dict[tuple[str, str], list[dict[str, int]]]
"""What was measured, by case and variant, round by round."""


def _place(name: str, kernel_name: str) -> Place:
    if name == "here" or (name == "auto" and not kernel_modules.refusal()):
        return Place("here", 1000, 5000)
    kernel = kernels.named(kernel_name)
    if name == "kvm" or (name == "auto" and machine.accelerator(kernel) == "kvm"):
        return Place("kvm", 1000, 5000, kernel=kernel)
    if name == "emulated":
        return Place(name, 32, 1000, kernel=kernel)
    return Place("counted", 32, 20000, is_counted=True, kernel=kernel)


@dataclass(frozen=True)
class Task:
    """What is measured, and how often."""

    cases: tuple[str, ...]
    rounds: int


def _settings(place: Place, task: Task, modules: Path, results: Path) -> dict[str, str]:
    """Return the environment of the script."""

    def packed(module: str, **values: int) -> str:
        return pack_parameters(load(MODULES / module / "manifest.toml"), values).hex()

    return {
        "KMOD": str(modules),
        "RESULTS": str(results),
        "BENCH": str(PROGRAMS),
        "PROGRAMS": str(kernels.PROGRAMS),
        "PYTHON": sys.executable,
        "ROUNDS": str(task.rounds),
        "CASES": " ".join(task.cases),
        "BYTES": str(place.megabytes * MEGABYTE),
        "COUNT": "1000",
        "COUNTED": "counted" if place.is_counted else "",
        "SAMPLES": str(place.samples),
        "TAG_1000": packed("stream_tag", interval=1000),
        "TAG_65280": packed("stream_tag", interval=65280),
        "XOR": packed("stream_xor"),
    }


def _build(kernel: Kernel) -> list[Path]:
    """Build what the script loads; returns where that is."""
    folder = ROOT / "build" / "kmod" / kernel.release
    for build in (kernels.build_modules(kernel, folder), kernels.build_programs()):
        if build.code:
            raise Failed(build.log)
    builder = Builder(MODULES, ROOT / "kernel_tap", COMPILE_SECONDS)
    try:
        code = asyncio.run(builder.compile("dns_app_tag", Platform("bpf"), ""))
    except BuildError as error:
        raise Failed(str(error)) from error
    bpf = PROGRAMS / "dns_app_tag.o"
    bpf.write_bytes(code)
    return [*kernels.modules_in(folder), bpf]


def _run_here(place: Place, task: Task, folder: Path) -> str:
    headers = Path("/lib/modules") / os.uname().release
    for path in _build(Kernel(os.uname().release, headers, headers, headers / "build")):
        shutil.copy(path, folder)
    result = subprocess.run(
        ["sh", "-eu", str(SCRIPT)],
        env=os.environ | _settings(place, task, folder, folder),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Failed(f"{SCRIPT.name} ended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def _run_in_guest(place: Place, kernel: Kernel, task: Task, folder: Path) -> str:
    shared = Path("/run/vm")
    guest = machine.Guest(
        kernel,
        "kvm" if place.name == "kvm" else "tcg",
        [SCRIPT],
        _build(kernel),
        _settings(place, task, shared, shared),
        GUEST_SECONDS,
        COUNTED if place.is_counted else (),
    )
    ended = machine.run(guest, folder, GUEST_SECONDS)
    if not ended.is_complete or ended.reasons(SCRIPT.stem):
        raise Failed(ended.report(SCRIPT.stem))
    return (folder / f"{SCRIPT.stem}.out").read_text(encoding="utf-8")


def _parsed(output: str) -> Measured:
    """Return what the lines of the script say; others are left out."""
    measured: Measured = defaultdict(list)
    for words in map(str.split, output.splitlines()):
        if len(words) > 2 and all("=" in word for word in words[2:]):
            pairs = (word.split("=") for word in words[2:])
            measured[words[0], words[1]].append({name: int(value) for name, value in pairs})
    return measured


def _rows(measured: Measured, time: str) -> Iterator[Row]:
    for (case, variant), rounds in measured.items():
        name = f"{case}: {variant}"
        bare = measured[case, BARE]
        if case == "warm":
            continue
        if case == "memory":
            yield _memory(name, rounds, bare)
            continue
        of = "bytes" if "bytes" in rounds[0] else "count"
        unit = "byte" if of == "bytes" else "query" if case in ("udp", "dns") else "connection"
        for metric in ("ns", "sender", "receiver", "instructions"):
            if metric in rounds[0] and not (case == "shaped" and metric != "ns"):
                yield _per(name, metric, rounds, of, f"{time}/{unit}")
        if case == "bulk":
            acks = [1e6 * now["acks"] / now["bytes"] for now in rounds]
            yield Row.of(name, "answers of the receiver", "1/MB", acks)
        if variant != BARE:
            speeds = [was["ns"] / now["ns"] for was, now in zip(bare, rounds, strict=True)]
            yield Row.of(name, "speed / bare", "x", speeds)
        if case == "shaped" and variant != BARE:
            yield Row.of(name, "expected", "x", [now["bytes"] / now["wire"] for now in rounds])


def _per(name: str, metric: str, rounds: Sequence[Mapping[str, int]], of: str, unit: str) -> Row:
    label = {"ns": "in all", "instructions": "instructions"}.get(metric, f"CPU, {metric}")
    unit = unit.replace("ns", "instructions", 1) if metric == "instructions" else unit
    return Row.of(name, label, unit, [now[metric] / now[of] for now in rounds])


def _memory(
    name: str, rounds: Sequence[Mapping[str, int]], bare: Sequence[Mapping[str, int]]
) -> Row:
    """Return what a bare socket takes, or what another one takes more than that."""
    taken = [_taken(now) for now in rounds]
    if rounds is bare:
        return Row.of(name, "objects", "bytes/socket", taken)
    more = [now - _taken(was) for now, was in zip(taken, bare, strict=True)]
    return Row.of(name, "more objects", "bytes/socket", more)


def _taken(now: Mapping[str, int]) -> float:
    return (now["after"] - now["before"]) / now["sockets"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write `bench/results/tap.json`, and keep the profile beside it."""
    parser = argparse.ArgumentParser(prog="make bench-tap", description=__doc__)
    places = ("auto", "here", "kvm", "counted", "emulated")
    parser.add_argument("--place", choices=places, default="auto", help="default: %(default)s")
    parser.add_argument("--kernel", choices=kernels.SERIES, default="6.1", help="of a guest")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=CASES, help="others keep their results"
    )
    options = parser.parse_args(arguments)
    try:
        place = _place(options.place, options.kernel)
        task = Task(tuple(options.cases), options.rounds)
        print(f"bench-tap: {place.name}, {task.rounds} rounds", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="l45-bench-") as name:
            folder = Path(name)
            if place.kernel:
                output = _run_in_guest(place, place.kernel, task, folder)
            else:
                output = _run_here(place, task, folder)
            shutil.copy(folder / PROFILE, RESULTS)
    except (Failed, OSError) as error:
        print(f"bench-tap: {error}", file=sys.stderr)
        return 1
    rows = [*_rows(_parsed(output), place.time)]
    title = f"The taps, {place.name}, medians"
    publish("tap", title, rows if task.cases == CASES else replaced("tap", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
