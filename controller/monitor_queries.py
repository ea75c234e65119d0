"""What is asked of monitoring's tables: queries for `controller.database.Database.read`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from controller.events import Event, Filter
from controller.monitor_alerts import Alert
from controller.monitor_flows import MAX_OPEN, Key
from controller.monitor_kinds import Alarm, Kind
from controller.monitor_tables import AlertRow, CounterRow, EventRow, FlowRow

Rows = list[dict[str, Any]]


def last_event(session: Session) -> int:
    """Return the highest number of an event; 0 where there is none."""
    return session.scalar(select(func.max(EventRow.id))) or 0


def events(wanted: Filter, *, after: int, limit: int) -> Callable[[Session], list[Event]]:
    """Return the first events after a number, in their order."""
    query = _filtered(wanted).where(EventRow.id > after).order_by(EventRow.id).limit(limit)
    return lambda session: [_event(row) for row in session.scalars(query)]


def newest_events(
    wanted: Filter, *, since: float = 0.0, limit: int
) -> Callable[[Session], list[Event]]:
    """Return the last events since a time, in their order."""
    query = _filtered(wanted).where(EventRow.id >= int(since * 1e6))
    query = query.order_by(EventRow.id.desc()).limit(limit)
    return lambda session: [_event(row) for row in session.scalars(query)][::-1]


def _filtered(wanted: Filter) -> Select[EventRow]:
    query = select(EventRow)
    if wanted.kinds:
        query = query.where(EventRow.kind.in_([kind.value for kind in wanted.kinds]))
    if wanted.intent is not None:
        query = query.where(EventRow.intent == wanted.intent)
    if wanted.host is not None:
        query = query.where(EventRow.host == wanted.host)
    return query


def _event(row: EventRow) -> Event:
    kind = Kind(row.kind)
    return Event(row.id, row.at, kind, row.intent, row.host, row.phase, row.text)


def counters(intent: str, *, since: float, limit: int) -> Callable[[Session], Rows]:
    """Return the last samples of an intent's customizations, in the order of their times."""
    query = (
        select(CounterRow)
        .where(CounterRow.intent == intent, CounterRow.at >= since)
        .order_by(CounterRow.at.desc(), CounterRow.customization)
        .limit(limit)
    )
    return lambda session: [_as_dict(row) for row in session.scalars(query)][::-1]


def flows(
    *,
    host: str | None,
    intent: str | None,
    process: str | None,
    only_open: bool,
    since: float,
    limit: int,
) -> Callable[[Session], Rows]:
    """Return the flows that were seen last, the newest first."""
    query = select(FlowRow).where(FlowRow.seen >= since)
    if host is not None:
        query = query.where(FlowRow.host == host)
    if process is not None:
        query = query.where((FlowRow.process == process) | (FlowRow.thread == process))
    if intent is not None:
        query = query.where(FlowRow.intents.contains(f" {intent} ", autoescape=True))
    if only_open:
        query = query.where(FlowRow.ended.is_(None))
    query = query.order_by(FlowRow.seen.desc()).limit(limit)
    return lambda session: [_as_dict(row) for row in session.scalars(query)]


def open_flows(session: Session) -> list[tuple[str, Key]]:
    """Return (host, key) of the flows that had not ended."""
    key = FlowRow.host, FlowRow.transport, FlowRow.number, FlowRow.opened
    rows = session.execute(select(*key).where(FlowRow.ended.is_(None)).limit(MAX_OPEN))
    return [(host, (transport, number, opened)) for host, transport, number, opened in rows]


def raised_alerts(session: Session) -> list[Alert]:
    """Return the alerts that were not cleared."""
    return [_alert(row) for row in session.scalars(_alerts(cleared=False))]


def cleared_alerts(limit: int) -> Callable[[Session], list[Alert]]:
    """Return the alerts that were, the newest first."""
    query = _alerts(cleared=True).limit(limit)
    return lambda session: [_alert(row) for row in session.scalars(query)]


def _alerts(*, cleared: bool) -> Select[AlertRow]:
    which = AlertRow.cleared.is_not(None) if cleared else AlertRow.cleared.is_(None)
    return select(AlertRow).where(which).order_by(AlertRow.id.desc())


def _alert(row: AlertRow) -> Alert:
    return Alert(row.id, Alarm(row.kind), row.subject, row.text, row.raised, row.cleared)


def _as_dict(row: CounterRow | FlowRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}
