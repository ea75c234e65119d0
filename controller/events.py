"""What happens in the network, as events: numbered, stored in the CIB, and told to who listens.

An event's number is its time in microseconds, or one more than the last one's: numbers grow, and
a listener that was away says the last it had (`Last-Event-ID`) and goes on from there, also after
the service was restarted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from controller.errors import Conflict
from controller.monitor_kinds import Kind
from controller.monitor_recorder import Recorder
from controller.monitor_tables import EventRow

log = logging.getLogger(__name__)

LISTENERS = 32
"""Who may listen at a time."""

SHARE = 8
"""How often one caller may: the rest is for others."""

BEHIND = 2048
"""Events that may wait for one listener; one that is further behind is dropped."""

MAX_TEXT = 1024
"""Characters of an event's text that are kept."""


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    id: int
    at: float
    """Unix time in seconds."""
    kind: Kind
    intent: str | None
    host: str | None
    phase: str | None
    """Of an intent."""
    text: str


@dataclass(frozen=True)
class Filter:
    """Which events one wants; what is left out matches all."""

    kinds: frozenset[Kind] = frozenset()
    intent: str | None = None
    host: str | None = None

    def matches(self, event: Event) -> bool:
        """Whether it is one of these."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and self.intent in (None, event.intent)
            and self.host in (None, event.host)
        )


class Listener:
    """Events that wait for one who listens; never more than `BEHIND`."""

    def __init__(self, wanted: Filter, caller: str) -> None:
        self.caller = caller
        self.lost = False
        """It is too far behind; what came since then is not here."""
        self._wanted = wanted
        self._events: deque[Event] = deque()
        self._there = asyncio.Event()

    def tell(self, event: Event) -> None:
        """Keep an event for it."""
        if self.lost or not self._wanted.matches(event):
            return
        if len(self._events) >= BEHIND:
            self.lost = True
            self._events.clear()
        else:
            self._events.append(event)
        self._there.set()

    async def next(self) -> Event | None:
        """Return the next event, once there is one; None where it is lost."""
        while not self._events:
            if self.lost:
                return None
            self._there.clear()
            await self._there.wait()
        return self._events.popleft()


class EventLog:
    """Where events are noted. All methods are called from the event loop's thread."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float], last: int = 0) -> None:
        """`clock` gives Unix time; numbers go on after `last`."""
        self.counts: Counter[Kind] = Counter()
        self.lost_listeners = 0
        self._recorder = recorder
        self._clock = clock
        self._last = last
        self._listeners: set[Listener] = set()

    def add(
        self,
        kind: Kind,
        text: str,
        *,
        intent: str | None = None,
        host: str | None = None,
        phase: str | None = None,
        at: float | None = None,
    ) -> Event:
        """Note an event: store it, and tell those who listen."""
        at = self._clock() if at is None else at
        self._last = max(self._last + 1, int(at * 1e6))
        event = Event(self._last, at, kind, intent, host, phase, text[:MAX_TEXT])
        self.counts[kind] += 1
        self._recorder.put(EventRow, {**asdict(event), "kind": kind.value})
        for listener in list(self._listeners):
            listener.tell(event)
            if listener.lost:
                self._listeners.discard(listener)
                self.lost_listeners += 1
                log.warning("a listener is %d events behind, and is dropped", BEHIND)
        return event

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def check_room(self, caller: str) -> None:
        """Raise Conflict where too many listen already, or this caller does so too often."""
        if sum(one.caller == caller for one in self._listeners) >= SHARE:
            raise Conflict(
                f"{caller} listens to events {SHARE} times already: end one, or use another token"
            )
        if len(self._listeners) >= LISTENERS:
            raise Conflict(f"{LISTENERS} listen to events already: end one of them, or try later")

    @contextmanager
    def listening(self, wanted: Filter, caller: str) -> Iterator[Listener]:
        """Return a listener for the block; raises Conflict where there is no room for it."""
        self.check_room(caller)
        listener = Listener(wanted, caller)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
