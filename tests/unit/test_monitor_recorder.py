"""Rows on their way into the database: bounded, the newest of each, none lost that was taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from controller import monitor_recorder
from controller.database import Base
from controller.monitor_recorder import BATCH, Recorder
from controller.monitor_tables import AlertRow
from tests.unit.monitor_kit import HeldWriter, opened
from tests.waiting import PATIENCE


def alert(number: int, text: str = "") -> dict[str, object]:
    what = {"kind": "refused", "subject": "h1", "raised": 1.0, "cleared": None}
    return {"id": number, "text": text, **what}


def stored(session: Session) -> dict[int, tuple[str, float | None]]:
    return {row.id: (row.text, row.cleared) for row in session.scalars(select(AlertRow))}


def test_what_waits_is_stored_together_and_the_newest_of_each(database_url: str) -> None:
    async def play() -> None:
        with opened(database_url) as database:
            recorder = Recorder(database)
            for number in range(3 * BATCH):
                recorder.put(AlertRow, alert(number, "old"))
            recorder.put(AlertRow, alert(7, "new"))
            recorder.put(AlertRow, {"id": 8, "cleared": 9.0})
            assert await recorder.written(PATIENCE)
            there = await database.read(stored)
            assert len(there) == 3 * BATCH
            assert there[7] == ("new", None)
            assert there[8] == ("old", 9.0), "what was left out stays"

    asyncio.run(play())


@pytest.mark.parametrize("text", ["a\0b", "\udcff", "two\nlines", "\x1b[31m"])
def test_text_that_a_database_refuses_holds_nothing_up(database_url: str, text: str) -> None:
    async def play() -> None:
        with opened(database_url) as database:
            recorder = Recorder(database)
            recorder.put(AlertRow, alert(1, text))
            recorder.put(AlertRow, alert(2, "good"))
            assert await recorder.written(PATIENCE)
            assert (await database.read(stored))[2] == ("good", None)

    asyncio.run(play())


def test_rows_that_no_database_takes_are_dropped_and_counted(database_url: str) -> None:
    async def play() -> None:
        with opened(database_url) as database:
            recorder = Recorder(database)
            recorder.put(AlertRow, {**alert(1), "raised": object()})
            assert not await recorder.written(PATIENCE)
            assert (recorder.waiting, recorder.dropped["alert"]) == (0, 1)
            recorder.put(AlertRow, alert(2, "good"))
            assert await recorder.written(PATIENCE)
            assert await database.read(stored) == {2: ("good", None)}

    asyncio.run(play())


def test_a_writer_that_is_behind_costs_no_memory_and_the_loss_is_counted() -> None:
    async def play() -> None:
        writer = HeldWriter()
        recorder = Recorder(writer, room=10)
        taken = [recorder.put(AlertRow, alert(number)) for number in range(15)]
        assert taken == 10 * [True] + 5 * [False]
        assert recorder.put(AlertRow, alert(3, "newer")), "what waits can still be changed"
        assert len(writer.jobs) == 1, "one batch at a time"
        assert (recorder.waiting, recorder.dropped["alert"]) == (10, 5)
        assert not await recorder.written(0.01)

    asyncio.run(play())


def test_what_could_not_be_written_is_tried_again(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        writer = HeldWriter()
        recorder = Recorder(writer)
        engine = create_engine(f"sqlite:///{tmp_path / 'nco.db'}")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            recorder.put(AlertRow, alert(1, "first"))
            recorder.put(AlertRow, alert(2))
            await writer.fail(session)
            recorder.put(AlertRow, {"id": 1, "cleared": 5.0})
            assert writer.jobs == [], "not at once"
            recorder._again()
            await writer.do(session)
            assert stored(session) == {1: ("first", 5.0), 2: ("", None)}
        engine.dispose()
        assert recorder.waiting == 0
        if recorder._retry is not None:
            recorder._retry.cancel()

    asyncio.run(play())


def test_a_batch_that_is_made_again_holds_the_same_rows() -> None:
    async def play() -> None:
        writer = HeldWriter()
        recorder = Recorder(writer)
        recorder.put(AlertRow, alert(1))
        (change, _), engine = writer.jobs[0], create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            change(session)
            session.rollback()
            change(session)
            assert list(stored(session)) == [1]

    asyncio.run(play())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5)),
        st.tuples(st.just("change"), st.integers(0, 5)),
        st.tuples(st.just("do"), st.just(0)),
        st.tuples(st.just("fail"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_in_the_end_the_database_has_what_was_put_last(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        writer, engine = HeldWriter(), create_engine("sqlite://")
        Base.metadata.create_all(engine)
        recorder, expected = Recorder(writer), dict[int, tuple[str, float | None]]()
        with Session(engine) as session:

            async def settle(step: str) -> None:
                if recorder._retry is not None:
                    recorder._retry.cancel()
                    recorder._again()
                if writer.jobs:
                    await (writer.fail if step == "fail" else writer.do)(session)
                    await asyncio.sleep(0)

            for count, (step, number) in enumerate(steps):
                if step == "put":
                    recorder.put(AlertRow, alert(number, f"{count}"))
                    expected[number] = (f"{count}", None)
                elif step == "change" and number in expected:
                    recorder.put(AlertRow, {"id": number, "cleared": float(count)})
                    expected[number] = (expected[number][0], float(count))
                elif step in ("do", "fail"):
                    await settle(step)
            while recorder.waiting or writer.jobs or recorder._retry:
                await settle("do")
            assert stored(session) == expected
        engine.dispose()

    asyncio.run(play())


def test_operators_wait_for_no_more_than_a_small_batch() -> None:
    assert monitor_recorder.BATCH <= 1000
