"""What unit tests share: the stream core, l45-peer and tshark, built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peer_kit
from tests.stream_world import Kit, Pair
from tests.tshark import Tshark


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


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`l45-peer` with sanitizers."""
    return peer_kit.build(tmp_path_factory.getbasetemp() / "l45-peer")


@pytest.fixture
def world(program: Path, tmp_path: Path) -> Iterator[peer_kit.World]:
    """Where peers and relays run, until the test ends."""
    with peer_kit.World(program, tmp_path) as world:
        yield world


@pytest.fixture
def tshark(tmp_path: Path) -> Tshark:
    """With a folder of its own as home."""
    return Tshark(tmp_path)
