"""What the NCO answers an operator whose request it cannot do; the text says what to do."""

from __future__ import annotations

from collections.abc import Collection

NAMED = 20
"""Of very many names, only so many are listed."""


class Refusal(Exception):
    """A request that is refused; nothing was changed."""


class NotFound(Refusal):
    """What the request names does not exist."""


class Conflict(Refusal):
    """The request contradicts what the NCO has already."""


class Invalid(Refusal):
    """The request cannot be carried out as it is."""


class Unavailable(Refusal):
    """The database cannot be used at the moment: the same request may succeed later."""


def listed(names: Collection[str], command: str) -> str:
    """Return names as a sentence has them, and what shows the rest where they are very many."""
    some = ", ".join(sorted(names)[:NAMED])
    if len(names) > NAMED:
        return f"{some} and {len(names) - NAMED} more (`{command}`)"
    return some or "none yet"
