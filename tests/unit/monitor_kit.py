"""What the tests of monitoring share: a real database, and time and network of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from controller.database import Database, Result
from controller.errors import Unavailable
from controller.events import EventLog
from controller.monitor import Monitor
from controller.monitor_recorder import Recorder
from tests.waiting import PATIENCE
from wire.messages import Counters, Flow, FlowCustomization, Hello, Report, Status


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Network:
    """The rest of the service: what is wanted where, and who is there."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.away: set[str] = set()
        self.mirrors: dict[str, str] = {}
        self.lost: dict[str, str] = {}

    def intent_of(self, _host: str, customization: str) -> str | None:
        return {"a": "tag", "b": "compress"}.get(customization[0])

    def missing(self) -> set[str]:
        return self.wanted & self.away

    def impossible_mirrors(self) -> dict[str, str]:
        return self.mirrors

    def unfollowed(self) -> dict[str, str]:
        return self.lost


class HeldWriter:
    """A writer that does what it is given when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[Session], object], Result[None]]] = []

    def submit(self, change: Callable[[Session], object]) -> Result[None]:
        result = Result[None]()
        self.jobs.append((change, result))
        return result

    async def fail(self, session: Session) -> None:
        """Let the oldest change run, and be taken back."""
        change, result = self.jobs.pop(0)
        change(session)
        session.rollback()
        result.set_exception(Unavailable("the disk is full"))
        await asyncio.sleep(0)

    async def do(self, session: Session) -> None:
        change, result = self.jobs.pop(0)
        change(session)
        session.commit()
        result.set_result(None)
        await asyncio.sleep(0)


@contextmanager
def opened(where: Path | str) -> Iterator[Database]:
    """Open a database by its URL, or one of the test's own in a folder."""
    database = Database(where if isinstance(where, str) else f"sqlite:///{where / 'nco.db'}")
    try:
        yield database
    finally:
        database.close()


class World:
    """A monitor over a database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.network = Network()
        self.recorder = Recorder(database)
        self.events = EventLog(self.recorder, clock)
        self.monitor = Monitor(
            self.recorder, self.events, self.network, clock=clock, sample_seconds=60
        )

    async def read(self, query: Callable[[Session], Any]) -> Any:  # noqa: ANN401
        """Return what is stored, once everything is."""
        assert await self.recorder.written(PATIENCE)
        return await self.database.read(query)


@asynccontextmanager
async def world(where: Path | str) -> AsyncIterator[World]:
    with opened(where) as database:
        yield World(database, Clock())


def hello(host: str) -> Hello:
    return Hello(host=host, boot_id="boot", kernel="6.18", tap="bpf")


def ident(letter: str) -> str:
    """Return the id of a customization; `Network.intent_of` goes by its first letter."""
    return letter * 32


def report(*letters: str, sent: int = 0, **said: Any) -> Report:  # noqa: ANN401
    statuses = [
        Status(
            id=ident(letter),
            module="idle",
            digest="0" * 64,
            receive=True,
            send=True,
            flows=1,
            counters=Counters(sent=sent),
        )
        for letter in letters
    ]
    return Report(**{"generation": 1, **said}, customizations=statuses)


def flow(number: int, *letters: str, sent: int = 0, **said: object) -> Flow:
    attached = [FlowCustomization(id=ident(one), counters=Counters(sent=sent)) for one in letters]
    known = {
        "transport": "udp",
        "local": "10.10.0.1",
        "local_port": 40000 + number,
        "remote": "10.10.0.3",
        "remote_port": 53,
        "process": "dig",
        "thread": "isc-net-0000",
        "pid": 100 + number,
        "uid": 0,
        "opened": 5.0,
    }
    return Flow.model_validate({**known, **said, "number": number, "customizations": attached})
