"""What happened to an intent, as lines that an operator can follow; in memory, bounded."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.phases import Phase

log = logging.getLogger(__name__)

EVENTS_KEPT = 256
INTENTS_KEPT = 1024


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    at: float
    """Unix time in seconds; later events of one intent have larger ones."""
    phase: Phase
    host: str | None
    text: str


class History:
    """The latest events of the latest intents."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.observers: list[Callable[[str, Event], None]] = []
        """Are told of each event, with the intent's name."""
        self._clock = clock
        self._events: OrderedDict[str, deque[Event]] = OrderedDict()

    def add(self, intent: str, phase: Phase, text: str, host: str | None = None) -> None:
        """Note and log an event."""
        events = self._events.setdefault(intent, deque(maxlen=EVENTS_KEPT))
        self._events.move_to_end(intent)
        if len(self._events) > INTENTS_KEPT:
            self._events.popitem(last=False)
        at = max(self._clock(), events[-1].at + 1e-6 if events else 0.0)
        event = Event(at, phase, host, text)
        events.append(event)
        log.info("intent=%s phase=%s host=%s event=%r", intent, phase, host or "-", text)
        for observer in self.observers:
            observer(intent, event)

    def restore(self, intent: str, events: Iterable[Event]) -> None:
        """Begin with what happened to an intent before the service was restarted."""
        self._events[intent] = deque(events, maxlen=EVENTS_KEPT)

    def of(self, intent: str) -> list[Event]:
        """Return what happened to an intent, the oldest first."""
        return list(self._events.get(intent, ()))
