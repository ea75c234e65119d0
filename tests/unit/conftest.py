"""What the unit tests of the stream core share, built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stream_world import Kit, Pair


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """The core and the modules."""
    return Kit.build(tmp_path_factory)


@pytest.fixture
def pair(kit: Kit) -> Iterator[Pair]:
    """Two ends of a new connection."""
    with kit.pair() as pair:
        yield pair


@pytest.fixture(scope="session")
def built(kit: Kit) -> Path:
    """Folder of the modules for user space."""
    return kit.built
