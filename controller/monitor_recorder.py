"""Hands monitoring's rows to the database's writer, and never waits for it.

What operators asked for must not wait behind what hosts tell. So there is at most one batch of
rows under way; what comes meanwhile is gathered, of each row the newest, and over a bound it is
dropped and counted. A batch that could not be written is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from controller.bulk import Row, update_rows
from controller.database import Base, Result
from controller.errors import Unavailable

log = logging.getLogger(__name__)

BATCH = 500
"""Rows of one batch; a commit of an operator's waits for no more than that."""

ROOM = 20_000
"""Rows of one table that may wait."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds after which a batch that failed is tried again."""

Key = tuple[Any, ...]


class Writer(Protocol):
    """What is needed of `controller.database.Database`."""

    def submit(self, change: Callable[[Session], object]) -> Result[None]:
        """Have a change committed."""


class Recorder:
    """Rows on their way into the database. `put` is called from the event loop's thread."""

    def __init__(self, writer: Writer, room: int = ROOM) -> None:
        self.dropped: Counter[str] = Counter()
        """Rows that there was no room for, by table, since the service began."""
        self._writer = writer
        self._room = room
        self._waiting: dict[Table, dict[Key, Row]] = {}
        self._lock = threading.Lock()
        self._under_way = False
        self._retry: asyncio.TimerHandle | None = None
        self._pause = FIRST_PAUSE
        self._waiters: list[asyncio.Future[bool]] = []

    def put(self, kind: type[Base], row: Mapping[str, Any]) -> bool:
        """Have a row stored, in place of one with its key; False where it is dropped.

        One that leaves columns out only changes the others, of a row that is there already.
        """
        table = kind.__table__
        assert isinstance(table, Table)  # noqa: S101 - no class here is mapped to a join
        key = tuple(row[column.name] for column in table.primary_key)
        with self._lock:
            rows = self._waiting.setdefault(table, {})
            if key not in rows and len(rows) >= self._room:
                self.dropped[table.name] += 1
                return False
            rows[key] = {**rows.get(key, {}), **{n: _storable(v) for n, v in row.items()}}
        self._send()
        return True

    @property
    def waiting(self) -> int:
        """Rows that the writer has not taken yet."""
        return sum(map(len, self._waiting.values()))

    async def written(self, seconds: float) -> bool:
        """Wait until everything is stored; False where that takes longer, or fails for now."""
        if not self._under_way and not self.waiting:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        asyncio.get_running_loop().call_later(seconds, _answer, waiter, False)
        return await waiter

    def _send(self) -> None:
        if self._under_way or self._retry is not None or not self.waiting:
            return
        self._under_way = True
        loop = asyncio.get_running_loop()
        batch = _Batch(self._take)
        result = self._writer.submit(batch.store)
        result.add_done_callback(lambda done: _call(loop, self._done, batch.rows, done.exception()))

    def _take(self, room: int) -> list[tuple[Table, Key, Row]]:
        """Return up to `room` rows, which do not wait any more; called in the writer's thread."""
        with self._lock:
            taken: list[tuple[Table, Key, Row]] = []
            for table, rows in sorted(self._waiting.items(), key=lambda item: item[0].name):
                for key in list(rows)[: room - len(taken)]:
                    taken.append((table, key, rows.pop(key)))
            return taken

    def _done(self, rows: list[tuple[Table, Key, Row]], error: BaseException | None) -> None:
        self._under_way = False
        if error is None:
            self._pause = FIRST_PAUSE
            self._send()
            if not self._under_way:
                self._tell(stored=True)
            return
        if not isinstance(error, Unavailable):
            self._give_up(rows, error)
            return
        log.warning("monitoring: %d rows not stored yet: %s", len(rows), error)
        with self._lock:
            for table, key, row in rows:
                waiting = self._waiting.setdefault(table, {})
                waiting[key] = {**row, **waiting.get(key, {})}
        self._retry = asyncio.get_running_loop().call_later(self._pause, self._again)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._tell(stored=False)

    def _give_up(self, rows: list[tuple[Table, Key, Row]], error: BaseException) -> None:
        """Drop rows that no database will ever take; others must not wait for them."""
        log.error("monitoring: %d rows cannot be stored", len(rows), exc_info=error)
        for table, _, _ in rows:
            self.dropped[table.name] += 1
        self._tell(stored=False)
        self._send()

    def _tell(self, *, stored: bool) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _answer(waiter, stored)

    def _again(self) -> None:
        self._retry = None
        self._send()


class _Batch:
    """A change that takes its rows when it is made; the same ones when it is made again.

    So an event that led to a change submitted after it is stored no later than that.
    """

    def __init__(self, take: Callable[[int], list[tuple[Table, Key, Row]]]) -> None:
        self.rows: list[tuple[Table, Key, Row]] = []
        self._take = take

    def store(self, session: Session) -> None:
        self.rows += self._take(BATCH - len(self.rows))
        by_table: dict[Table, dict[Key, Row]] = {}
        for table, key, row in self.rows:
            rows = by_table.setdefault(table, {})
            rows[key] = {**rows.get(key, {}), **row}
        for table, rows in by_table.items():
            store(session, table, rows.values())


def store(session: Session, table: Table, rows: Iterable[Row]) -> None:
    """Put whole rows in place of those with their keys, and change what others name."""
    whole: list[Row] = []
    changes: dict[Key, list[Row]] = {}
    for row in rows:
        if len(row) == len(table.columns):
            whole.append(row)
        else:
            changes.setdefault(tuple(sorted(row)), []).append(row)
    if whole:
        _upsert(session, table, whole)
    for alike in changes.values():
        update_rows(session, table, alike)


def _upsert(session: Session, table: Table, rows: list[Row]) -> None:
    names = [column.name for column in table.columns if not column.primary_key]
    keys = [column.name for column in table.primary_key]
    insert: postgresql.Insert | sqlite.Insert
    if session.get_bind().dialect.name == "postgresql":
        insert = postgresql.insert(table)
    else:
        insert = sqlite.insert(table)
    new: dict[str, ColumnElement[Any]] = {name: insert.excluded[name] for name in names}
    statement = insert.on_conflict_do_update(index_elements=keys, set_=new)
    session.connection().execute(statement, rows)


def _storable(value: Any) -> Any:  # noqa: ANN401 - a column's
    """Return text that every database takes: names of threads may hold any bytes."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _answer(waiter: asyncio.Future[bool], value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)


def _call(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """Have the loop call; a loop that has ended needs nothing any more."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        log.debug("a batch ended after the event loop")
