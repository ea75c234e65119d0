"""How much of what was monitored is kept: by age and by number of rows, removed in small steps.

A step is a change of a few hundred rows, and the next one waits until it is committed: what
operators ask for is never behind more than one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, delete, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.config import Retention
from controller.database import Base, Result
from controller.errors import Unavailable
from controller.monitor_tables import AlertRow, CounterRow, EventRow, FlowRow

log = logging.getLogger(__name__)

T = TypeVar("T")

STEP = 500
"""Rows of one change."""

EVERY = 60.0
"""Seconds between two looks at what is too old or too much."""

DAY = 86400.0


class Store(Protocol):
    """What is needed of `controller.database.Database`."""

    def submit(self, change: Callable[[Session], object]) -> Result[None]:
        """Have a change committed."""

    def read(self, query: Callable[[Session], T]) -> Result[T]:
        """Have a query answered."""


@dataclass(frozen=True)
class Limit:
    """What of a table is kept."""

    table: type[Base]
    time: InstrumentedAttribute[Any]
    """Unix time in seconds; rows without one are kept."""
    seconds: float
    rows: int


def limits(settings: Retention) -> list[Limit]:
    """Return what is kept of each table."""
    return [
        Limit(EventRow, EventRow.at, settings.events_days * DAY, settings.events_rows),
        Limit(CounterRow, CounterRow.at, settings.counters_days * DAY, settings.counters_rows),
        Limit(FlowRow, FlowRow.seen, settings.flows_days * DAY, settings.flows_rows),
        Limit(AlertRow, AlertRow.cleared, settings.alerts_days * DAY, settings.alerts_rows),
    ]


async def prune(store: Store, settings: Retention, now: float) -> int:
    """Remove what is too old or too much; return how many rows that were."""
    removed = 0
    for limit in limits(settings):
        oldest = now - limit.seconds
        removed += await _remove(store, limit, limit.time < oldest, None)
        excess = await store.read(partial(_count, limit)) - limit.rows
        if excess > 0:
            removed += await _remove(store, limit, limit.time.is_not(None), excess)
    return removed


async def _remove(store: Store, limit: Limit, which: ColumnElement[bool], most: int | None) -> int:
    """Remove the oldest of `which`, all or at most so many."""
    removed = 0
    while most is None or removed < most:
        step = STEP if most is None else min(STEP, most - removed)
        keys = await store.read(partial(_oldest, limit, which, step))
        if keys:
            await store.submit(partial(_delete, limit, keys))
            removed += len(keys)
        if len(keys) < step:
            break
    return removed


def _primary_key(limit: Limit) -> tuple[Any, ...]:
    return tuple(limit.table.__table__.primary_key)


def _count(limit: Limit, session: Session) -> int:
    rows = select(func.count()).select_from(limit.table).where(limit.time.is_not(None))
    return session.scalar(rows) or 0


def _oldest(
    limit: Limit, which: ColumnElement[bool], count: int, session: Session
) -> list[tuple[Any, ...]]:
    query = select(*_primary_key(limit)).where(which).order_by(limit.time).limit(count)
    return [tuple(row) for row in session.execute(query)]


def _delete(limit: Limit, keys: list[tuple[Any, ...]], session: Session) -> None:
    session.execute(delete(limit.table).where(tuple_(*_primary_key(limit)).in_(keys)))


async def keep_pruned(
    store: Store,
    settings: Retention,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Prune again and again, until cancelled."""
    while True:
        await sleep(EVERY)
        try:
            if removed := await prune(store, settings, clock()):
                log.info("retention: %d rows removed", removed)
        except Unavailable as error:
            log.warning("retention: nothing removed this time: %s", error)
