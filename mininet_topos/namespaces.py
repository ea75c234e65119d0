"""Being in a network namespace for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2 import netns


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Be in a named network namespace, this thread alone; sockets made there stay there."""
    netns.pushns(name)
    try:
        yield
    finally:
        netns.popns()
