"""How long tests wait for what has to come, and a clock for what is not to be waited for."""

from __future__ import annotations

import asyncio

PATIENCE = 60.0
"""Seconds after which a test that waits gives up; long, as others may load the machine."""


class LoopClock:
    """The clock of the running event loop, of asyncio's own kind, which a test sets forward.

    So time limits can be as long as they are in use, and none is over too early where the machine
    is slow.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        running = loop.time
        self._ahead = 0.0
        loop.time = lambda: running() + self._ahead  # type: ignore[method-assign]

    def forward(self, seconds: float) -> None:
        """Set it forward: what is due by then happens at the next turn of the loop."""
        self._ahead += seconds
