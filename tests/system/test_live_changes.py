"""The short form of two long plays: live rotations, and parts killed at random moments.

`make rotations ROTATIONS=300` and `make chaos RUNS=300` are the long ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import chaos, rotation

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def test_no_query_is_lost_while_modules_and_keys_rotate(tmp_path: Path) -> None:
    done = rotation.play(tmp_path, times=6, seed=4)
    assert done["modules"]
    assert done["keys"]
    assert done["overtaken"], "the link did not reorder anything"
    assert done["dns_app_tag"] + done["dns_compress"] == done["queries"]


def test_killed_parts_cost_neither_queries_nor_what_was_acknowledged(tmp_path: Path) -> None:
    done = chaos.play(tmp_path, times=8, seed=2)
    assert sum(times for what, times in done.items() if what.startswith("killed")) == 8
    assert done["queries"] > 0
