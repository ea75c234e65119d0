"""Events: numbered, stored, told; a reader goes on where it was, and cannot make memory grow."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sse_starlette.event import ServerSentEvent

from controller import monitor_queries
from controller.errors import Conflict
from controller.event_stream import PAGE, stream
from controller.events import BEHIND, LISTENERS, SHARE, EventLog, Filter
from controller.monitor_kinds import LOST, Kind
from controller.monitor_recorder import Recorder
from tests.unit.monitor_kit import Clock, HeldWriter, World, opened, world
from tests.waiting import PATIENCE


def log_in_memory() -> EventLog:
    return EventLog(Recorder(HeldWriter()), Clock())


def test_numbers_grow_also_when_the_clock_goes_back(tmp_path: Path) -> None:
    async def play() -> None:
        with opened(tmp_path) as database:
            clock, recorder = Clock(), Recorder(database)
            log = EventLog(recorder, clock)
            first = log.add(Kind.HOST, "here")
            clock.now -= 1000
            second = log.add(Kind.HOST, "there")
            assert second.id == first.id + 1
            await recorder.written(PATIENCE)
            last = await database.read(monitor_queries.last_event)
            again = EventLog(recorder, clock, last)
            assert again.add(Kind.HOST, "after a restart").id > second.id

    asyncio.run(play())


def test_a_filter_takes_what_it_names() -> None:
    async def play() -> None:
        log = log_in_memory()
        one = log.add(Kind.INTENT, "", intent="tag", host="h1")
        other = log.add(Kind.HOST, "", host="h1")
        assert all(Filter().matches(event) for event in (one, other))
        assert [Filter(intent="tag").matches(event) for event in (one, other)] == [True, False]
        assert Filter(frozenset({Kind.HOST}), host="h1").matches(other)
        assert not Filter(frozenset({Kind.HOST}), host="h2").matches(other)

    asyncio.run(play())


def test_a_listener_that_never_reads_is_dropped_and_others_are_not() -> None:
    async def play() -> None:
        log = log_in_memory()
        with log.listening(Filter(), "a") as asleep, log.listening(Filter(), "b") as awake:
            for number in range(BEHIND + 10):
                log.add(Kind.HOST, str(number))
                event = await awake.next()
                assert event is not None
                assert event.text == str(number)
            assert asleep.lost
            assert await asleep.next() is None, "it holds nothing any more"
            assert (log.listeners, log.lost_listeners) == (1, 1)
        assert log.listeners == 0

    asyncio.run(play())


def test_only_so_many_may_listen() -> None:
    log = log_in_memory()
    with contextlib.ExitStack() as listening:
        for number in range(LISTENERS):
            listening.enter_context(log.listening(Filter(), f"caller {number}"))
        with pytest.raises(Conflict, match="listen to events already"):
            log.check_room("another")


def test_one_caller_leaves_room_for_others() -> None:
    log = log_in_memory()
    with contextlib.ExitStack() as listening:
        for _ in range(SHARE):
            listening.enter_context(log.listening(Filter(), "greedy"))
        with pytest.raises(Conflict, match=f"greedy listens to events {SHARE} times already"):
            log.check_room("greedy")
        log.check_room("modest")
    log.check_room("greedy")


async def texts(happening: AsyncIterator[ServerSentEvent], count: int) -> list[str]:
    found = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found.append(json.loads(str((await anext(happening)).data))["text"])
    return found


def follow(there: World, last: int | None, wanted: Filter | None = None) -> AsyncIterator[object]:
    return stream(there.events, there.recorder, there.database, wanted or Filter(), last)


def test_a_reader_goes_on_after_the_last_event_it_had_and_misses_none(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as there:
            seen = there.events.add(Kind.HOST, "seen")
            for number in range(2 * PAGE):
                there.events.add(Kind.HOST, f"missed {number}")
            happening = follow(there, seen.id)
            missed = await texts(happening, 10)
            for number in range(5):
                there.events.add(Kind.HOST, f"live {number}")
            rest = await texts(happening, 2 * PAGE - 10 + 5)
            assert missed + rest == [
                *(f"missed {number}" for number in range(2 * PAGE)),
                *(f"live {number}" for number in range(5)),
            ]
            await happening.aclose()
            assert there.events.listeners == 0

    asyncio.run(play())


def test_a_reader_without_a_last_event_gets_what_happens_from_now_on(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as there:
            there.events.add(Kind.HOST, "before")
            happening = follow(there, None, Filter(intent="tag"))
            waiting = asyncio.create_task(texts(happening, 1))
            await asyncio.sleep(0)
            there.events.add(Kind.HOST, "another's")
            there.events.add(Kind.INTENT, "now", intent="tag")
            assert await waiting == ["now"]
            await happening.aclose()

    asyncio.run(play())


def test_a_reader_that_is_too_slow_is_told_so_at_the_end(tmp_path: Path) -> None:
    async def play() -> None:
        async with world(tmp_path) as there:
            happening = follow(there, None)
            first = asyncio.create_task(texts(happening, 1))
            await asyncio.sleep(0)
            for number in range(BEHIND + 2):
                there.events.add(Kind.HOST, str(number))
            assert "events behind" in (await first)[0]
            with pytest.raises(StopAsyncIteration):
                await anext(happening)

    asyncio.run(play())


def test_a_stream_ends_with_a_word_while_the_database_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controller.event_stream.WRITE_SECONDS", 0.01)

    async def play() -> None:
        recorder = Recorder(HeldWriter())
        log = EventLog(recorder, Clock())
        log.add(Kind.HOST, "not stored")
        happening = stream(log, recorder, None, Filter(), 0)  # type: ignore[arg-type]
        event = await anext(happening)
        assert event.event == LOST
        assert log.listeners == 1
        await happening.aclose()
        assert log.listeners == 0

    asyncio.run(play())
