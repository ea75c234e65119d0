"""A little chaos with the CIB on PostgreSQL; more by `python -m tests.system.chaos_postgresql`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import chaos_postgresql
from tests.unit.databases import needs_postgresql


@needs_postgresql
@pytest.mark.system
@pytest.mark.timeout(300)
def test_what_was_acknowledged_survives_service_and_server(tmp_path: Path) -> None:
    done = chaos_postgresql.play(tmp_path, times=3, seed=1730)
    assert {"killed database", "killed service and database"} <= set(done), "the seed says so"
