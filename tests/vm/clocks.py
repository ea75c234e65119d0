"""A guest's clock, set wrong and right again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DAY = 86400.0


@contextmanager
def jumping() -> Iterator[Callable[[float], None]]:
    """Yield what sets the clock so many days ahead of the right time; it is right in the end."""
    right = time.time() - time.monotonic()

    def jump(days: float) -> None:
        time.clock_settime(time.CLOCK_REALTIME, right + time.monotonic() + days * DAY)

    try:
        yield jump
    finally:
        jump(0)
