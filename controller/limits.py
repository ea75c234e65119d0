"""How often one source may fail: a bound on guessing, and on the work that guessing makes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

SOURCES_KEPT = 4096
"""Sources that are remembered; beyond it the one that failed longest ago is forgotten."""


class FailureLimit:
    """A bucket of failures for each source, which leaks at a steady pace."""

    def __init__(self, clock: Callable[[], float], *, allowed: float, per_second: float) -> None:
        """Allow `allowed` failures at once, and `per_second` more; `clock` never goes back."""
        self._clock = clock
        self._allowed = allowed
        self._per_second = per_second
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def is_exceeded(self, source: str) -> bool:
        """Whether this source has to wait: one more failure would be too many."""
        return self._level(source) > self._allowed - 1

    def failed(self, source: str) -> bool:
        """Count a failure; whether it is the one with which the limit is reached."""
        before = self.is_exceeded(source)
        after = min(self._level(source) + 1, self._allowed)
        self._levels[source] = (after, self._clock())
        self._levels.move_to_end(source)
        if len(self._levels) > SOURCES_KEPT:
            self._levels.popitem(last=False)
        return self.is_exceeded(source) and not before

    def _level(self, source: str) -> float:
        level, at = self._levels.get(source, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._per_second)
