"""`make bench-core`: what the stream core and the modules cost in user space, beside memcpy.

Each case runs `bench/core.c` (which says what it measures) on one module. A ratio compares the two
medians of one run: frames made or read by the core, and the same bytes copied by memcpy.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import Row, publish
from wire.manifest import load, pack_parameters

ROOT = Path(__file__).parent.parent
MODULES = ROOT / "kernel_tap" / "modules"
USER = ROOT / "build" / "user"
PROGRAM = ROOT / "build" / "bench" / "core"

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Case:
    """One module, written to in one way."""

    module: str
    name: str
    write: int
    """Bytes a call."""
    total: int
    """Bytes a run."""
    runs: int
    per_message: bool = False
    """Whether the numbers are for a message or for a byte."""


def _cases(runs: int) -> list[Case]:
    streams = ["stream_tag", "stream_xor", "rate_limit"]
    datagrams = ["dns_app_tag", "dns_compress"]
    return [
        *(Case(m, "bulk, 64 KiB writes", 65536, 256 * MEBIBYTE, runs) for m in streams),
        *(Case(m, "bulk, in the cache", 65536, 2 * 65536, 50 * runs) for m in streams),
        *(Case(m, "100-byte writes", 100, 16 * MEBIBYTE, runs, True) for m in streams),
        *(Case(m, "100-byte queries", 100, 16 * MEBIBYTE, runs, True) for m in datagrams),
    ]


def _measure(case: Case) -> dict[str, list[int]]:
    """Return nanoseconds of each run, by what was timed."""
    manifest = load(MODULES / case.module / "manifest.toml")
    result = subprocess.run(
        [
            str(PROGRAM),
            str(USER / f"{case.module}.so"),
            pack_parameters(manifest, {}).hex(),
            *(str(number) for number in (case.write, case.total, case.runs)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    found = defaultdict(list)
    for line in result.stdout.splitlines():
        timed, nanoseconds = line.split()
        found[timed].append(int(nanoseconds))
    return found


def _rows(case: Case) -> list[Row]:
    found = _measure(case)
    count = case.total // case.write if case.per_message else case.total
    unit = "ns/message" if case.per_message else "ns/byte"
    name = f"{case.module}: {case.name}"
    rows = []
    for timed, base in (("send", "copy-out"), ("receive", "copy-in")):
        if timed not in found:
            continue
        for metric in (base, timed):
            rows.append(Row.of(name, metric, unit, [ns / count for ns in found[metric]]))
        copied = statistics.median(found[base])
        rows.append(Row.of(name, f"{timed} / memcpy", "x", [ns / copied for ns in found[timed]]))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write `bench/results/core.json`."""
    parser = argparse.ArgumentParser(prog="make bench-core", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="runs of each case (default 15)")
    options = parser.parse_args(arguments)
    rows = []
    for case in _cases(options.runs):
        print(f"{case.module}: {case.name}", file=sys.stderr)
        try:
            rows += _rows(case)
        except (OSError, RuntimeError) as error:
            print(f"bench-core: {error}", file=sys.stderr)
            return 1
    publish("core", "Stream core and modules in user space, medians", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
