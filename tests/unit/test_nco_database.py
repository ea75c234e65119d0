"""The database's writer and reader: together, durable, bounded, and patient with a bad disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller import database as module
from controller.cib import SteeringRow, read_all
from controller.config import ConfigError
from controller.control import HIGHEST_GENERATION
from controller.database import Database
from controller.database_engine import LOCK, make_engine
from controller.errors import Unavailable
from tests import postgres
from tests.unit.databases import needs_postgresql
from tests.unit.nco_world import World
from wire.messages import FROM_AGENT, Hello, parse


def row(number: int) -> SteeringRow:
    return SteeringRow(id=number, generation=number, desired="")


def numbers(database: Database) -> list[int]:
    return database.read(lambda session: sorted(session.scalars(select(SteeringRow.id)))).result()


def test_what_is_done_is_there_for_everyone_and_after_a_restart(database_url: str) -> None:
    async def test() -> None:
        with closing(Database(database_url)) as database:
            await database.submit(lambda session: session.add(row(1)))
            assert await database.read(lambda session: len(session.scalars(select(1)).all())) == 1
            assert numbers(database) == [1]

    asyncio.run(test())
    with closing(Database(database_url)) as database:
        assert numbers(database) == [1]


def test_changes_that_come_together_are_one_transaction(database_url: str) -> None:
    with closing(Database(database_url)) as database:
        go = threading.Event()
        first = database.submit(lambda _: go.wait(60))
        others = [database.submit(lambda session, n=n: session.add(row(n))) for n in range(1, 101)]
        assert not first.done()
        go.set()
        for each in (first, *others):
            each.result()
        assert numbers(database) == list(range(1, 101))
        assert database.commits[0] <= 3


def test_a_wrong_change_fails_alone(database_url: str) -> None:
    with closing(Database(database_url)) as database:
        go = threading.Event()
        database.submit(lambda _: go.wait(60))
        results = [database.submit(lambda session, n=n: session.add(row(n))) for n in (1, 2, 2, 3)]
        go.set()
        assert [type(each.exception()) for each in results] == [
            type(None),
            type(None),
            IntegrityError,
            type(None),
        ]
        assert numbers(database) == [1, 2, 3]


def test_who_is_away_loses_nothing(database_url: str) -> None:
    async def test() -> None:
        with closing(Database(database_url)) as database:
            go = threading.Event()
            task = asyncio.ensure_future(database.submit(lambda _: go.wait(60)))
            await asyncio.sleep(0)
            second = asyncio.ensure_future(database.submit(lambda session: session.add(row(2))))
            await asyncio.sleep(0)
            second.cancel()
            go.set()
            await task
            await database.submit(lambda session: session.add(row(3)))
            assert numbers(database) == [2, 3]

    asyncio.run(test())


def test_a_full_queue_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    with closing(Database(f"sqlite:///{tmp_path}/nco.db")) as database:
        go, begun = threading.Event(), threading.Event()
        database.submit(lambda _: (begun.set(), go.wait(60)))
        begun.wait(60)
        results = [database.submit(lambda _: None) for _ in range(3)]
        assert isinstance(results[2].exception(0), Unavailable)
        go.set()
        results[1].result(60)
    assert isinstance(database.submit(lambda _: None).exception(0), Unavailable)


def test_a_locked_file_and_a_full_disk_are_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.database_engine.PATIENCE", 0.1)
    path = tmp_path / "nco.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked = database.submit(lambda session: session.add(row(1))).exception()
        assert isinstance(locked, Unavailable)
        assert "locked" in str(locked)

        def fill(session: Session) -> None:
            session.execute(text("PRAGMA max_page_count = 1"))
            session.add(SteeringRow(id=2, generation=1, desired="x" * 100_000))

        full = database.submit(fill).exception()
        assert isinstance(full, Unavailable)
        assert "full" in str(full)
        database.submit(lambda session: session.add(row(3))).result()
        assert numbers(database) == [3]


@needs_postgresql
def test_a_server_that_is_away_is_survived(postgresql: postgres.Server) -> None:
    with closing(Database(postgresql.url())) as database:
        postgresql.stop()
        assert isinstance(database.submit(lambda s: s.add(row(1))).exception(), Unavailable)
        assert isinstance(database.read(lambda s: s.scalar(select(1))).exception(), Unavailable)
        postgresql.start()
        database.submit(lambda session: session.add(row(2))).result()
        assert numbers(database) == [2]


@needs_postgresql
def test_a_server_that_hangs_is_given_up(
    postgresql: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANGS", 1.0)
    with closing(Database(postgresql.url())) as database:
        database.submit(lambda session: session.add(row(1))).result()
        numbers(database)  # the reader is connected too
        with postgresql.stopped():
            lost = database.submit(lambda session: session.add(row(2)))
            unread = database.read(lambda session: session.scalar(select(1)))
            for result in (lost, unread):
                assert isinstance(result.exception(60), Unavailable)
            again = database.submit(lambda session: session.add(row(3)))
            assert isinstance(again.exception(60), Unavailable), "nor can it be reached anew"
        database.submit(lambda session: session.add(row(4))).result(60)
        assert numbers(database) == [1, 4]


@needs_postgresql
def test_who_was_killed_holds_nobody_up(postgresql: postgres.Server) -> None:
    """The server has not noticed yet that the former service is gone."""
    with closing(Database(postgresql.url())):
        pass
    holder = psycopg.connect(host=str(postgresql.folder), user=postgres.USER)
    holder.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    threading.Timer(0.5, holder.close).start()
    with closing(Database(postgresql.url())) as database:
        database.submit(lambda session: session.add(row(1))).result()


@needs_postgresql
def test_who_lost_the_database_to_a_running_service_ends(postgresql: postgres.Server) -> None:
    with closing(Database(postgresql.url())) as database:
        postgresql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
        with closing(Database(postgresql.url())):
            for _ in range(2):  # that its connection is gone; that the database is too
                failed = database.submit(lambda s: s.add(row(8))).exception()
                assert isinstance(failed, Unavailable)
            with pytest.raises(ConfigError, match="only one may run"):
                asyncio.run(database.lost())


@needs_postgresql
def test_only_one_service_has_a_database(postgresql: postgres.Server) -> None:
    with closing(Database(postgresql.url())) as database:
        with pytest.raises(ConfigError, match="another service's"):
            Database(postgresql.url())
        postgresql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
        with closing(Database(postgresql.url())) as other:
            assert isinstance(database.submit(lambda s: s.add(row(8))).exception(), Unavailable)
            other.submit(lambda session: session.add(row(9))).result()
        taken = database.submit(lambda session: session.add(row(10))).exception()
        assert isinstance(taken, Unavailable)
        with pytest.raises(ConfigError, match="only one may run"):
            asyncio.run(database.lost())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/x", "not supported"),
        ("nonsense", "no database URL"),
        ("postgresql+psycopg://nco:secret@host/x", "passfile"),
    ],
)
def test_bad_settings_say_what_to_do_and_no_secret(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        make_engine(url)
    assert "secret" not in str(raised.value)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be opened"):
        Database(f"postgresql+psycopg://nco@/l45?host={tmp_path}")


def test_a_file_that_is_locked_at_the_start_may_be_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.database_engine.PATIENCE", 0.1)
    path = tmp_path / "nco.db"
    Database(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            Database(f"sqlite:///{path}")
    Database(f"sqlite:///{path}").close()


def test_a_file_that_is_no_database_or_of_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nco.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match="not a database"):
        Database(f"sqlite:///{path}")
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="schema 99"):
        Database(f"sqlite:///{path}")


def test_text_that_a_database_refuses_does_not_stop_others(
    database_url: str, tmp_path: Path
) -> None:
    """A hostile agent says what it likes; what others do is stored nevertheless."""
    odd = "6.1\0\x1b[2J"
    hello: dict[str, Any] = {
        "type": "hello",
        "host": "h1",
        "boot_id": odd,
        "kernel": odd,
        "tap": odd,
    }
    hello |= {"tap_error": odd, "addresses": [odd, "10.0.0.1"], "generation": HIGHEST_GENERATION}
    said = parse(FROM_AGENT, hello)
    assert isinstance(said, Hello)
    with closing(World(tmp_path, database_url)) as world:
        world.nco.connected(world.hosts["h1"], said)
        world.connect("h2")
        world.settle()
        stored = world.database.read(read_all).result()
        assert set(stored.hosts) == {"h1", "h2"}
