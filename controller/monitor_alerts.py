"""Alerts: what somebody should look at. Raised once, kept until it is cleared, told as events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from controller.errors import NotFound
from controller.events import EventLog
from controller.monitor_kinds import Alarm, Kind
from controller.monitor_recorder import Recorder
from controller.monitor_tables import AlertRow

MAX_RAISED = 10_000
"""Alerts at a time; of more only the number is known."""


@dataclass(frozen=True)
class Alert:
    """One alert."""

    id: int
    kind: Alarm
    subject: str
    """The host, intent or customization that it is about."""
    text: str
    raised: float
    """Unix time in seconds."""
    cleared: float | None = None


class Alerts:
    """The alerts that are raised now. Raising one again, or clearing none, changes nothing."""

    def __init__(
        self,
        recorder: Recorder,
        events: EventLog,
        clock: Callable[[], float],
        room: int = MAX_RAISED,
    ) -> None:
        self.omitted = 0
        """Alerts that there was no room for."""
        self._recorder = recorder
        self._events = events
        self._clock = clock
        self._room = room
        self._raised: dict[tuple[Alarm, str], Alert] = {}

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Begin with those that were raised when the service ended."""
        self._raised |= {(alert.kind, alert.subject): alert for alert in alerts}

    def raised(self) -> list[Alert]:
        """Return those that are raised now, the newest first."""
        return sorted(self._raised.values(), key=lambda alert: -alert.id)

    def is_raised(self, kind: Alarm, subject: str) -> bool:
        """Whether this one is raised."""
        return (kind, subject) in self._raised

    def raise_alert(
        self,
        kind: Alarm,
        subject: str,
        text: str,
        *,
        host: str | None = None,
        intent: str | None = None,
    ) -> None:
        """Raise an alert, unless it is raised already."""
        if self.is_raised(kind, subject):
            return
        if len(self._raised) >= self._room:
            self.omitted += 1
            return
        event = self._events.add(Kind.ALERT, f"{kind} raised: {text}", host=host, intent=intent)
        alert = Alert(event.id, kind, subject, text, event.at)
        self._raised[kind, subject] = alert
        self._store(alert)

    def clear(self, kind: Alarm, subject: str, why: str) -> None:
        """Clear an alert, if it is raised."""
        alert = self._raised.pop((kind, subject), None)
        if alert is not None:
            self._events.add(Kind.ALERT, f"{kind} cleared: {subject}: {why}")
            self._store(replace(alert, cleared=self._clock()))

    def clear_by_hand(self, number: int) -> None:
        """Clear the alert with this number; raises NotFound."""
        found = next((alert for alert in self._raised.values() if alert.id == number), None)
        if found is None:
            raise NotFound(f"no alert {number} is raised: `nco alerts` shows those that are")
        self.clear(found.kind, found.subject, "by hand")

    def keep_only(self, kind: Alarm, wanted: dict[str, str], why: str) -> None:
        """Raise and clear all of one kind, so that these remain: text by subject."""
        for subject in [s for k, s in self._raised if k == kind and s not in wanted]:
            self.clear(kind, subject, why)
        for subject, text in wanted.items():
            host = subject if kind == Alarm.HOST_LOST else None
            intent = None if kind in (Alarm.HOST_LOST, Alarm.CA) else subject
            self.raise_alert(kind, subject, text, host=host, intent=intent)

    def _store(self, alert: Alert) -> None:
        self._recorder.put(AlertRow, {**asdict(alert), "kind": alert.kind.value})
