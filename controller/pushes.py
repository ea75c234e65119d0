"""Large frames to many connections: in pieces, and to few of them at a time.

An artifact for ten thousand agents is one frame in memory. Written whole to all of them at once, it
would be ten thousand copies in buffers, and nothing else would be served meanwhile. So connections
take turns: each that has one writes a little, then the next one does, and only so many take part at
a time; the others wait in the order in which they came. A connection whose peer does not read
loses its turn until the peer does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

PIECE = 10 * 1024
"""Bytes that are encrypted at a time; a connection keeps a buffer of a third more than that."""

TURN = 6 * PIECE
"""Bytes that are written in one turn, and sent together."""

AT_A_TIME = 64
"""Connections that take turns."""


class Outlet(Protocol):
    """A connection with something large to write."""

    def take_turn(self) -> bool:
        """Write a little; whether there is more that can be written now."""


class Pushes:
    """Whose turn it is; `soon` has something called once the loop has seen to what else is due."""

    def __init__(
        self, soon: Callable[[Callable[[], None]], object], at_a_time: int = AT_A_TIME
    ) -> None:
        self._soon = soon
        self._at_a_time = at_a_time
        self._taking_turns: deque[Outlet] = deque()
        self._waiting: deque[Outlet] = deque()
        self._is_due = False

    def add(self, outlet: Outlet) -> None:
        """Give a connection turns, until it says that it needs no more."""
        self._waiting.append(outlet)
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_due and (self._waiting or self._taking_turns):
            self._is_due = True
            self._soon(self._round)

    def _round(self) -> None:
        """Give each that takes part one turn."""
        self._is_due = False
        while self._waiting and len(self._taking_turns) < self._at_a_time:
            self._taking_turns.append(self._waiting.popleft())
        for _ in range(len(self._taking_turns)):
            outlet = self._taking_turns.popleft()
            if outlet.take_turn():
                self._taking_turns.append(outlet)
        self._go_on()
