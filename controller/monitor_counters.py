"""What customizations count: the latest in memory, a sample each minute in the CIB.

A sample is stored only of what has counted since the last one, and of what is taken away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from controller.monitor_recorder import Recorder
from controller.monitor_tables import CounterRow
from wire.messages import Counters, Report, Status

NOTHING = Counters()


@dataclass
class Counted:
    """One customization on one host, as far as its counters go."""

    host: str
    intent: str | None
    status: Status
    stored: tuple[Counters, int | None] | None = None
    """Counters and flows of the last sample."""

    @property
    def now(self) -> tuple[Counters, int | None]:
        """What a sample would hold."""
        return self.status.counters, self.status.flows


class CounterTable:
    """The latest counters of all customizations that hosts have."""

    def __init__(
        self,
        recorder: Recorder,
        clock: Callable[[], float],
        intent_of: Callable[[str, str], str | None],
    ) -> None:
        """`clock` gives Unix time, `intent_of` the intent of a host's customization."""
        self._recorder = recorder
        self._clock = clock
        self._intent_of = intent_of
        self._by_host: dict[str, dict[str, Counted]] = {}

    def told(self, host: str, report: Report) -> None:
        """Take over what a host says it has."""
        before = self._by_host.pop(host, {})
        after: dict[str, Counted] = {}
        for status in report.customizations:
            counted = before.pop(status.id, None) or Counted(host, None, status)
            counted.status = status
            counted.intent = counted.intent or self._intent_of(host, status.id)
            after[status.id] = counted
        for gone in before.values():
            self._sample(gone, self._clock())
        if after:
            self._by_host[host] = after

    def sample(self) -> None:
        """Store what has counted since the last time."""
        now = self._clock()
        for here in self._by_host.values():
            for counted in here.values():
                self._sample(counted, now)

    def customized(self, host: str) -> bool:
        """Whether a host had customizations when it was heard last."""
        return host in self._by_host

    @property
    def customizations(self) -> int:
        """How many there are on all hosts."""
        return sum(map(len, self._by_host.values()))

    def by_intent(self) -> dict[str, Counter[str]]:
        """Return the sums over all hosts, for each intent."""
        sums: dict[str, Counter[str]] = {}
        for here in self._by_host.values():
            for one in here.values():
                if one.intent is not None:
                    counted = sums.setdefault(one.intent, Counter())
                    counted.update(one.status.counters.model_dump())
                    counted["flows"] += one.status.flows or 0
        return sums

    def _sample(self, counted: Counted, now: float) -> None:
        if counted.now == (counted.stored or (NOTHING, counted.status.flows)):
            return
        counted.stored = counted.now
        status = counted.status
        self._recorder.put(
            CounterRow,
            {
                "at": now,
                "customization": status.id,
                "intent": counted.intent,
                "host": counted.host,
                "module": status.module,
                "flows": status.flows,
                "counters": status.counters.model_dump(),
            },
        )
