"""How to connect to the database, and what its tables look like in each version.

SQLite with a write-ahead log and full synchronisation: what was committed is still there after a
`kill -9` or a power cut. PostgreSQL commits synchronously by its own default, and a server that is
away is noticed within seconds.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from controller.config import ConfigError
from controller.migrations import MIGRATIONS, SCHEMA_VERSION


class Taken(ConfigError):
    """Another service has the database."""


LOCK = 0x4C34352E4E434F
"""Number of PostgreSQL's advisory lock: "L45.NCO"."""

PATIENCE = 5
"""Seconds to wait for another's lock, or for a server."""

STATEMENT = 30
"""Seconds that a server may take for one statement."""

POSTGRESQL = "postgresql+psycopg"


def make_engine(url: str) -> Engine:
    """Return the engine for an URL of the setting `database`; raises ConfigError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            f"database: {url.partition(':')[0]!r}... is no database URL, like "
            f"{POSTGRESQL}://nco@db.example/l45?passfile=/etc/l45/pgpass"
        ) from error
    if parsed.password is not None:
        raise ConfigError(
            "database: a password does not belong in the settings: write the server's line into a "
            "file of mode 0600, as PostgreSQL's .pgpass, and say ?passfile=/path/of/it"
        )
    if parsed.drivername == "sqlite":
        engine = create_engine(parsed, hide_parameters=True)  # errors are logged, keys are not
        event.listen(engine, "connect", _pragmas)
        event.listen(engine, "begin", _begin)
        return engine
    if parsed.drivername == POSTGRESQL:
        return create_engine(
            _with_limits(parsed), pool_size=4, max_overflow=0, hide_parameters=True
        )
    raise ConfigError(
        f"database: {parsed.drivername!r} is not supported: use {POSTGRESQL}://, or leave the "
        "setting out for a file in the state folder"
    )


def _pragmas(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # of sqlite3: `_begin` begins
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {PATIENCE * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin where SQLAlchemy does; Python's sqlite3 would leave DDL out of transactions."""
    connection.exec_driver_sql("BEGIN")


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """Let a migration rebuild tables in any order; only SQLite has to be told."""
    if connection.dialect.name != "sqlite":
        yield
        return
    sqlite: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    sqlite.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        sqlite.execute("PRAGMA foreign_keys = ON")


def _with_limits(url: URL) -> URL:
    """Have libpq give up on a server that does not answer, and the server on a lock."""
    limits = {
        "connect_timeout": str(PATIENCE),
        "tcp_user_timeout": str(PATIENCE * 1000),
        "keepalives_idle": str(PATIENCE),
        "keepalives_interval": "2",
        "keepalives_count": "2",
        "application_name": "l45-nco",
        "options": f"-c lock_timeout={PATIENCE}s -c statement_timeout={STATEMENT}s",
    }
    return url.update_query_dict({**limits, **url.query})


def ask_for_lock(connection: Connection) -> None:
    """Hold PostgreSQL's lock as long as this connection lasts; raises ConfigError.

    A service that was killed still has it until the server has noticed, which takes a moment.
    """
    if connection.dialect.name != "postgresql":
        return
    try:
        connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        connection.rollback()
        raise ConfigError(
            f"the database {connection.engine.url.database} is another service's: only one may "
            "write it; stop that one, or wait until the server has noticed that it is gone"
        ) from error
    connection.commit()


def cut(connection: Connection) -> None:
    """Have whoever waits for a PostgreSQL server on this connection fail; from any thread.

    A server that hangs is a peer whose kernel answers: no limit of TCP or of the server's own ends
    the wait for it.
    """
    driver = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        with socket.socket(fileno=os.dup(driver.fileno())) as its:
            its.shutdown(socket.SHUT_RDWR)


def open_schema(engine: Engine, metadata: MetaData, writer: str) -> None:
    """Bring the database to this program's version, and name its writer; raises ConfigError."""
    with engine.connect() as connection:
        ask_for_lock(connection)
        with _without_foreign_keys(connection):
            version = schema_version(connection)
            if version > SCHEMA_VERSION:
                raise ConfigError(
                    f"the database {engine.url.database} has schema {version}, this program "
                    f"writes {SCHEMA_VERSION}: use the version of the program that wrote it"
                )
            connection.execute(text("CREATE TABLE IF NOT EXISTS l45_schema (version INTEGER)"))
            connection.execute(text("CREATE TABLE IF NOT EXISTS l45_writer (name VARCHAR)"))
            for old in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
                for statement in MIGRATIONS[old]:
                    connection.execute(text(statement))
            metadata.create_all(connection)
            connection.execute(text("DELETE FROM l45_schema"))
            connection.execute(text("DELETE FROM l45_writer"))
            version_now, named = {"version": SCHEMA_VERSION}, {"name": writer}
            connection.execute(text("INSERT INTO l45_schema VALUES (:version)"), version_now)
            connection.execute(text("INSERT INTO l45_writer VALUES (:name)"), named)
            connection.commit()
        connection.invalidate()  # ends it, and with it the lock, which the writer takes


def schema_version(connection: Connection) -> int:
    """Return which version's tables are there; 0 where none are."""
    if inspect(connection).has_table("l45_schema"):
        return int(connection.execute(text("SELECT version FROM l45_schema")).scalar_one())
    if connection.dialect.name == "sqlite":  # versions 1 and 2 kept it there
        return int(connection.execute(text("PRAGMA user_version")).scalar_one())
    return 0


def writer_named(connection: Connection) -> str:
    """Return who opened the database last."""
    return str(connection.execute(text("SELECT name FROM l45_writer")).scalar_one())
