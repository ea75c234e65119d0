"""Chaos with the CIB on PostgreSQL: `python -m tests.system.chaos_postgresql --runs 300 --seed 1`.

As `tests.system.chaos`, with a server of its own, which is one more that is killed.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests import postgres
from tests.system import chaos, plays


def play(folder: Path, times: int, seed: int, report: bool = False) -> Counter[str]:
    """Do so many runs on a testbed of its own; return what was done. Raises Broken."""
    with postgres.server() as server:
        return chaos.play(folder, times, seed, report, server)


if __name__ == "__main__":
    sys.exit(plays.main("tests.system.chaos_postgresql", __doc__, "runs", play))
