"""Databases of earlier versions are taken over: what they held is what the NCO goes on with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect

from controller.database import Base, Database
from controller.migrations import MIGRATIONS, SCHEMA_VERSION
from controller.phases import Phase
from tests.unit.nco_kit import opened

VERSION_2 = Path(__file__).with_name("nco_schema_2.sql")
"""What the program of version 2 wrote: intents that are up, going down, failed and gone."""


def written(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_2.read_text())
        if version == 1:
            for statement in MIGRATIONS[1]:
                _, _, table, _, _, column, *_ = statement.split()
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
            connection.execute("DROP TABLE epoch")
            connection.execute("PRAGMA user_version = 1")
        connection.commit()


@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_version_is_taken_over(tmp_path: Path, version: int) -> None:
    path = tmp_path / "nco.db"
    written(path, version)
    for _ in range(2):
        with opened(path) as (cib, _):
            states = {state.name: state for state in cib.intents()}
            assert {name: state.phase for name, state in states.items()} == {
                "up": Phase.ACTIVE,
                "down": Phase.STOP_SEND,
                "failed": Phase.FAILED,
            }
            up, down = states["up"].deployments[0], states["down"].deployments[0]
            assert (up.kind, up.module, up.ends, down.ends) == ("first", "idle", False, True)
            assert (up.proven, down.proven) == (True, False)
            assert states["down"].revoked
            assert (states["failed"].error, states["up"].priority) == ("no", 50)
            assert [mirror.port for mirror in states["up"].mirrors] == [53]
            (client,) = up.items["h1"]
            assert (client.sends, client.digest, client.key) == (
                True,
                "ab" * 32,
                b"k" * 32 if version == 2 else b"",
            )
            assert cib.hosts()["h1"].generation == 3
            assert set(cib.hosts()["dns"].deployments) == {up.uid, down.uid}


def test_a_migrated_database_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    written(tmp_path / "old.db", 2)
    shapes = []
    for name in ("old.db", "new.db"):
        with closing(Database(f"sqlite:///{tmp_path / name}")) as database:
            look = inspect(database.engine)
            shapes.append(
                {
                    table: sorted((c["name"], bool(c["nullable"])) for c in look.get_columns(table))
                    for table in Base.metadata.tables
                }
            )
    assert shapes[0] == shapes[1]


def test_a_migration_that_is_cut_short_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nco.db"
    written(path, 2)
    steps = {**MIGRATIONS, SCHEMA_VERSION - 1: (*MIGRATIONS[SCHEMA_VERSION - 1], "no SQL")}
    with monkeypatch.context() as patch:
        patch.setattr("controller.database_engine.MIGRATIONS", steps)
        with pytest.raises(ValueError, match="cannot be opened"):
            Database(f"sqlite:///{path}")
    with opened(path) as (cib, _):
        assert len(cib.intents()) == 3
