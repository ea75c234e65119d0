"""Spans of time as people write them: `90s`, `1h30m`, `2d`; seconds inside the program."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}

_WRITTEN = re.compile(r"(?:\d+(?:\.\d+)?[dhms]\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def seconds(written: str) -> float:
    """Return how long `written` is, in seconds; raises ValueError."""
    if not _WRITTEN.fullmatch(written.strip()):
        raise ValueError(f"{written!r} is no span of time: write it like 90s, 10m, 1h30m or 2d")
    return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(written))


def written(span: float) -> str:
    """Return a span in seconds as people write it."""
    text = ""
    for unit, size in UNITS.items():
        count = span / size if unit == "s" else float(int(span // size))
        span -= count * size
        text += f"{count:g}{unit}" if count else ""
    return text or "0s"


def _parsed(value: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
    return seconds(value) if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(_parsed), Field(ge=1, le=366 * 86400)]
"""Seconds, at least one and at most a year; may be written as text."""
