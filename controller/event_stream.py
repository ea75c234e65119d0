"""Events as server-sent events: what is stored since the last one had, then what happens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from typing import Protocol, TypeVar

from sqlalchemy.orm import Session
from sse_starlette.event import ServerSentEvent

from controller.database import Result
from controller.events import BEHIND, Event, EventLog, Filter
from controller.monitor_kinds import LOST
from controller.monitor_queries import events
from controller.monitor_recorder import Recorder

T = TypeVar("T")

PAGE = 500
"""Stored events that are read at a time."""

NOBODY = "somebody"
"""A caller of whom nothing is known."""

WRITE_SECONDS = 5.0
"""How long what happened before may take to be stored."""


class Reads(Protocol):
    """What is needed of `controller.database.Database`."""

    def read(self, query: Callable[[Session], T]) -> Result[T]:
        """Have a query answered."""


async def stream(
    log: EventLog,
    recorder: Recorder,
    database: Reads,
    wanted: Filter,
    last: int | None,
    *,
    caller: str = NOBODY,
    is_allowed: Callable[[], bool] = lambda: True,
) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield what happens; after the event `last`, where it is given, what happened since then.

    It is for one `caller`; before each event it asks whether that one may still have it.
    """
    with log.listening(wanted, caller) as listener:
        after = 0
        if last is not None:
            # What happened before it listened may not be stored yet.
            if not await recorder.written(WRITE_SECONDS):
                yield _word("the database does not take events now: connect again")
                return
            async for event in _stored(database, wanted, last):
                after = event.id
                yield _sent(event)
        while (happened := await listener.next()) is not None:
            if not is_allowed():
                yield _word("the token of this reader was revoked, or has expired")
                return
            if happened.id > after:
                yield _sent(happened)
    yield _word(f"this reader is over {BEHIND} events behind: connect again, with Last-Event-ID")


def _word(text: str) -> ServerSentEvent:
    return ServerSentEvent(event=LOST, data=json.dumps({"text": text}))


async def _stored(database: Reads, wanted: Filter, after: int) -> AsyncGenerator[Event, None]:
    while page := await database.read(events(wanted, after=after, limit=PAGE)):
        for event in page:
            yield event
        after = page[-1].id


def _sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.id), event=event.kind.value, data=json.dumps(asdict(event)))
