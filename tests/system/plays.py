"""Plays on a testbed that are run for long by hand and for a short time by tests."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from mininet_topos.processes import TestbedError
from mininet_topos.testbed import interrupt_once


class Play(Protocol):
    """Does something so many times on a testbed of its own."""

    def __call__(self, folder: Path, times: int, seed: int, report: bool = ...) -> Counter[str]:
        """Return what was done; raise AssertionError where something is not as it has to be."""


def main(program: str, about: str | None, times: str, play: Play) -> int:
    """Run a play as a program with the options `--TIMES` and `--seed`; return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument(f"--{times}", dest="times", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    interrupt_once()
    folder = Path(tempfile.mkdtemp(prefix="l45-play-"))
    print(f"seed {arguments.seed}; logs and captures in {folder}", flush=True)
    try:
        done = play(folder, arguments.times, arguments.seed, report=True)
    except (AssertionError, TestbedError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{what}: {number}" for what, number in sorted(done.items())))
    return 0
