"""What fails again and again is said once: until it is over, or something else is wrong."""

from __future__ import annotations

from collections.abc import Hashable


class Complaints:
    """The last reason for what fails now, for each thing that can fail."""

    def __init__(self) -> None:
        self._reasons: dict[Hashable, str] = {}

    def is_new(self, about: Hashable, reason: str) -> bool:
        """Note why something fails; whether that was not so when it was tried last."""
        before = self._reasons.get(about)
        self._reasons[about] = reason
        return before != reason

    def is_over(self, about: Hashable) -> bool:
        """Note that something works; whether it did not when it was tried last."""
        return self._reasons.pop(about, None) is not None
