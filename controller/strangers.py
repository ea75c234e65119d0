"""Who may stand at the door: peers that have not said yet who they are.

There is room for so many of them. Where it is full, a newcomer from an address that has fewer than
another one gets a place of the address that has most, the one that has stood there longest: whoever
opens connections and says nothing keeps out himself, and nobody else. Pure: no sockets, no clock.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

P = TypeVar("P")


class Strangers(Generic[P]):
    """The peers at the door, each under its address."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._address_of: dict[P, str] = {}
        """The longest there first."""
        self._count: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._address_of)

    def has_room(self, address: str) -> bool:
        """Whether a newcomer may come in, possibly in another one's place."""
        return len(self) < self._room or self._greediest()[1] > self._count[address] + 1

    def add(self, peer: P, address: str) -> P | None:
        """Let a newcomer in; return whom to send away for it."""
        leaving = None
        if len(self) >= self._room:
            greedy, _ = self._greediest()
            leaving = next(peer for peer, where in self._address_of.items() if where == greedy)
            self.remove(leaving)
        self._address_of[peer] = address
        self._count[address] += 1
        return leaving

    def remove(self, peer: P) -> None:
        """Note that a peer has gone or introduced itself; it may have been sent away before."""
        address = self._address_of.pop(peer, None)
        if address is not None:
            self._count[address] -= 1
            if not self._count[address]:
                del self._count[address]

    def all(self) -> list[P]:
        """Return all of them."""
        return list(self._address_of)

    def _greediest(self) -> tuple[str, int]:
        """Return the address that has most of them, and how many."""
        return self._count.most_common(1)[0]
