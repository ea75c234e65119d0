"""What unit tests share: the stream core, l45-peer and tshark, built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peer_kit, postgres
from tests.stream_world import Kit, Pair
from tests.tshark import Tshark
from tests.unit.databases import needs_postgresql


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


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgres.Server]:
    """A server of the tests' own."""
    with postgres.server() as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server: postgres.Server) -> Iterator[postgres.Server]:
    """The server, with an empty database."""
    yield postgresql_server
    postgresql_server.execute("DROP SCHEMA public CASCADE")
    postgresql_server.execute("CREATE SCHEMA public")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/nco.db"
    server: postgres.Server = request.getfixturevalue("postgresql")
    return server.url()
