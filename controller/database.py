"""The database behind the CIB: one writer thread, readers beside it, no caller that waits.

`submit` hands a change to the writer thread; what was submitted while it wrote is committed
together, in one transaction. `read` runs a query in a thread of its own. Both return a `Result`,
which a coroutine awaits and a thread asks for its `result()`; the event loop never waits for a
disk or a server.

    await database.submit(lambda session: session.merge(Token(...)))
    rows = await database.read(lambda session: list(session.scalars(select(Token))))

A change uses nothing but its session and values that it was made with: it runs in another thread,
and again where another change of its transaction failed. What a query returns must not load
anything later. A result fails with `Unavailable` where the database is, and with the change's own
error where that is wrong; nothing of the change is stored then, as far as anybody can know: after
a connection that was lost during a commit, read again what is there.

Tables are classes on `Base`, in files of whoever owns them; `Database` makes those that are
missing, of all files that were imported before it was opened. SQLite and PostgreSQL are the same
to them. There is one service a database: SQLite's lies in the state folder, which is locked, and
PostgreSQL holds an advisory lock for the writer's connection. A writer that lost its connection
takes the lock again, and ends the service if another one has opened the database in between, as
what it believes may be wrong.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from controller.config import ConfigError
from controller.database_engine import (
    STATEMENT,
    Taken,
    ask_for_lock,
    cut,
    make_engine,
    open_schema,
    writer_named,
)
from controller.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

TOGETHER = 0.01
"""Seconds in which changes are gathered at most while the writer is busy: as long as the last
transaction took. An idle writer begins at once."""

MAX_BATCH = 1000
"""Changes of one transaction."""

MAX_WAITING = 10_000
"""Changes, or queries, that may wait; more are refused, as waiting would not help."""


HANGS = STATEMENT + 5.0
"""Seconds after which a transaction fails, whatever a server is doing."""


class Base(DeclarativeBase):
    """Base of all tables."""


class Result(Future[T]):
    """What becomes of a change or a query; to be awaited, or asked for its `result()`."""

    def __init__(self) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()  # it happens, whether or not anybody still waits

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()


@dataclass
class _Job(Generic[T]):
    run: Callable[[Session], T]
    result: Result[T] = field(default_factory=Result)


class _Worker:
    """A thread with a connection of its own, and a bounded queue of what it is to do."""

    def __init__(self, name: str, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._jobs: queue.Queue[_Job[Any] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closed = False

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Do what is still to be done, and end."""
        self._closed = True
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        self.disconnect()

    @property
    def waiting(self) -> int:
        """How much is to be done."""
        return self._jobs.qsize()

    def put(self, run: Callable[[Session], T]) -> Result[T]:
        """Have it done."""
        job = _Job(run)
        try:
            if self._closed:
                raise Unavailable("the service is ending: try again when it is back")
            self._jobs.put_nowait(job)
        except queue.Full:
            error = f"{MAX_WAITING} changes wait for the database already: try again later"
            job.result.set_exception(Unavailable(error))
        except Unavailable as error:
            job.result.set_exception(error)
        return job.result

    def connect(self) -> Connection:
        """Return the connection, which is made where there is none."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def disconnect(self) -> None:
        """Forget the connection; a new one is made when it is needed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._handle(job)

    def _handle(self, job: _Job[Any]) -> None:
        self._do([job])

    def _do(self, jobs: list[_Job[Any]]) -> Exception | None:
        """Run jobs in one transaction; return what went wrong, with nothing of them done."""
        try:
            with (
                self._bounded(),
                Session(self.connect(), expire_on_commit=False) as session,
            ):
                values = [job.run(session) for job in jobs]
                session.commit()
        except Exception as error:
            return self._failed(jobs, error)
        for job, value in zip(jobs, values, strict=True):
            job.result.set_result(value)
        return None

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Give up on a server that hangs; SQLite's waits end by themselves."""
        if self._engine.dialect.name != "postgresql":
            yield
            return
        timer = threading.Timer(HANGS, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # it must not cut what comes next

    def _cut(self) -> None:
        if self._connection is not None:
            log.warning("the database has not answered for %g s: the connection is ended", HANGS)
            cut(self._connection)

    def _failed(self, jobs: list[_Job[Any]], error: Exception) -> Exception:
        raise NotImplementedError


class _Reader(_Worker):
    def _failed(self, jobs: list[_Job[Any]], error: Exception) -> Exception:
        failure = unavailable(error, "read") or error
        if isinstance(failure, Unavailable):
            self.disconnect()
        for job in jobs:
            job.result.set_exception(failure)
        return failure


class _Writer(_Worker):
    def __init__(self, engine: Engine, token: str) -> None:
        super().__init__("database writer", engine)
        self.lost = Result[None]()
        """Done, with an error, once another service has taken the database over."""
        self.commits = 0
        self.commit_time = 0.0
        """Seconds spent on transactions so far."""
        self._token = token

    def connect(self) -> Connection:
        fresh = self._connection is None
        connection = super().connect()
        if fresh:
            self._check_name(connection)  # of who may hold the lock for as long as it runs
            ask_for_lock(connection)
            self._check_name(connection)
            connection.commit()
        return connection

    def _check_name(self, connection: Connection) -> None:
        if writer_named(connection) != self._token:
            raise Taken(
                "another service has opened this database since this one lost its connection: "
                "only one may run"
            )

    def _handle(self, job: _Job[Any]) -> None:
        jobs = [job, *self._gathered()]
        began = time.monotonic()
        error = self._do(jobs)
        if error is not None and len(jobs) > 1 and not isinstance(error, Unavailable):
            for each in jobs:
                self._do([each])
        took = time.monotonic() - began
        self.commits += 1
        self.commit_time += took
        if took < TOGETHER:
            time.sleep(min(took, TOGETHER - took))

    def _gathered(self) -> list[_Job[Any]]:
        jobs: list[_Job[Any]] = []
        while len(jobs) < MAX_BATCH - 1:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _failed(self, jobs: list[_Job[Any]], error: Exception) -> Exception:
        failure = unavailable(error, "written") or error
        if isinstance(failure, Unavailable):
            self.disconnect()
            log.warning("%s", failure)
        if isinstance(failure, Unavailable) or len(jobs) == 1:
            for job in jobs:
                job.result.set_exception(failure)
        if isinstance(error, Taken) and not self.lost.done():
            self.lost.set_exception(error)
        return failure


def unavailable(error: Exception, verb: str) -> Unavailable | None:
    """Return what to say where the database is the matter, and not what was asked of it."""
    if isinstance(error, ConfigError):  # it is another service's, now at least
        return Unavailable(str(error))
    if not isinstance(error, DBAPIError):
        return None
    kinds = ("OperationalError", "InterfaceError", "InternalError", "InsufficientResources")
    kind = type(error.orig).__mro__ if error.orig is not None else ()
    if not error.connection_invalidated and not {one.__name__ for one in kind} & set(kinds):
        return None
    if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_ERROR":  # a statement is wrong
        return None
    reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
    return Unavailable(f"the database cannot be {verb}: {reason}")


class Database:
    """See the module's text; `submit` and `read` may be called from any thread."""

    def __init__(self, url: str) -> None:
        """Open what `url` names, and bring it to this program's schema.

        Raises ConfigError, and Unavailable where the same may succeed later.
        """
        self.engine = make_engine(url)
        token = secrets.token_hex(8)
        self._writer = _Writer(self.engine, token)
        self._reader = _Reader("database reader", self.engine)
        try:
            open_schema(self.engine, Base.metadata, token)
            self._writer.connect()
        except (SQLAlchemyError, ConfigError) as error:
            self._writer.disconnect()
            self.engine.dispose()
            if isinstance(error, ConfigError):
                raise
            kind = Unavailable if unavailable(error, "opened") else ConfigError
            reason = getattr(error, "orig", None) or error
            shown = self.engine.url.render_as_string(hide_password=True)
            raise kind(f"the database {shown} cannot be opened: {reason}") from error
        self._writer.start()
        self._reader.start()

    def close(self) -> None:
        """Write what was submitted, then close."""
        self._writer.close()
        self._reader.close()
        self.engine.dispose()

    def submit(self, change: Callable[[Session], object]) -> Result[None]:
        """Have a change committed; done once it is."""

        def run(session: Session) -> None:
            change(session)
            session.flush()

        return self._writer.put(run)

    def read(self, query: Callable[[Session], T]) -> Result[T]:
        """Have a query answered, of what is committed."""
        return self._reader.put(query)

    @property
    def waiting(self) -> int:
        """Changes that are not committed yet."""
        return self._writer.waiting

    @property
    def commits(self) -> tuple[int, float]:
        """How many transactions there were, and the seconds that they took together."""
        return self._writer.commits, self._writer.commit_time

    async def lost(self) -> None:
        """Return never; raises Taken once another service has the database."""
        await self._writer.lost
