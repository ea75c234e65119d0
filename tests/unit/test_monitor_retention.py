"""What is kept of what was monitored, by age and by number."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller import monitor_queries
from controller.config import Retention
from controller.errors import Unavailable
from controller.events import Filter
from controller.monitor_kinds import Alarm, Kind
from controller.monitor_tables import CounterRow, FlowRow
from controller.retention import DAY, STEP, keep_pruned, prune
from tests.unit.monitor_kit import flow, report, world
from wire.messages import Flows


def test_what_is_too_old_goes_and_the_rest_stays(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.events.add(Kind.HOST, "old")
            there.monitor.flows_reported("h1", Flows(flows=[flow(1, "a")]))
            there.monitor.reported("h1", report("a", sent=1))
            there.monitor.reported("h1", report())
            there.monitor.alerts.raise_alert(Alarm.REFUSED, "h1", "cleared long ago")
            there.monitor.alerts.clear(Alarm.REFUSED, "h1", "")
            there.monitor.alerts.raise_alert(Alarm.REFUSED, "h2", "raised long ago")
            there.clock.now += 100 * DAY
            there.events.add(Kind.HOST, "new")
            await there.read(monitor_queries.last_event)
            removed = await prune(there.database, Retention(), there.clock.now)
            found = await there.read(monitor_queries.newest_events(Filter(), limit=10))
            assert [event.text for event in found] == ["new"]
            assert await there.read(_count(FlowRow)) == await there.read(_count(CounterRow)) == 0
            assert [a.subject for a in await there.read(monitor_queries.raised_alerts)] == ["h2"]
            assert await there.read(monitor_queries.cleared_alerts(10)) == []
            assert removed == 4 + 1 + 1 + 1

    asyncio.run(play())


@pytest.mark.parametrize("there_are", [10, STEP + 10, 2 * STEP])
def test_of_too_many_the_newest_stay(database_url: str, there_are: int) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            for number in range(there_are):
                there.clock.now += 0.001
                there.events.add(Kind.HOST, str(number))
            await there.read(monitor_queries.last_event)
            await prune(there.database, Retention(events_rows=10), there.clock.now)
            found = await there.read(monitor_queries.newest_events(Filter(), limit=100))
            newest = list(map(str, range(there_are)))[-10:]
            assert [event.text for event in found] == newest

    asyncio.run(play())


def test_a_database_that_is_away_ends_nothing() -> None:
    class Away:
        times = 0

        def read(self, _: object) -> object:
            self.times += 1
            raise Unavailable("the server is away")

    async def play() -> None:
        away = Away()

        async def sleep(_: float) -> None:
            if away.times == 3:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await keep_pruned(away, Retention(), lambda: 0.0, sleep)  # type: ignore[arg-type]

    asyncio.run(play())


def _count(table: type[FlowRow] | type[CounterRow]):  # noqa: ANN202
    def count(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(table)) or 0

    return count
