"""What tests of the CIB run on: SQLite, and PostgreSQL where that can be started."""

from __future__ import annotations

import os

import pytest

from tests import postgres

needs_postgresql = pytest.mark.skipif(
    os.geteuid() != 0 or postgres.programs() is None,
    reason="needs root and PostgreSQL (apt-get install postgresql)",
)
