"""A PostgreSQL server of the tests' own: in a folder, on a Unix socket, without a network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from tests.waiting import PATIENCE

USER = "postgres"


def programs() -> Path | None:
    """Return the folder of Debian's newest PostgreSQL, if it is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass
class Server:
    """A running server; `stop` and `start` are a server that is away for a while."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}"

    def start(self) -> None:
        binary = programs()
        assert binary is not None
        settings = ("-h", "", "-k", str(self.folder), "-c", "fsync=off")
        command = [str(binary / "postgres"), "-D", str(self.folder / "data"), *settings]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(_as_user(command), stderr=log, stdout=log)
        self._wait()

    def stop(self) -> None:
        if self.process is not None:
            pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)
            self.process.wait(PATIENCE)
            self.process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have all its processes hang (SIGSTOP) for as long as the block lasts."""
        pids = self._hang()
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut does (SIGKILL); `start` has it recover."""
        for pid in self._hang():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE)
            self.process = None

    def _hang(self) -> list[int]:
        """Stop the server, so that it starts nobody any more, then who it has started; say who."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGSTOP)
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for child in map(int, children):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
        return [first, *map(int, children)]

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with self._connect() as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user=USER, dbname=USER, autocommit=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.folder / "log").read_text())


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]


@contextmanager
def server() -> Iterator[Server]:
    """Run a server for as long as the block lasts; needs root, to become another user."""
    binary = programs()
    assert binary is not None
    with TemporaryDirectory(prefix="l45-pg-") as name:
        folder = Path(name)
        shutil.chown(folder, USER, USER)
        make = [str(binary / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-N"]
        subprocess.run(_as_user(make), check=True, capture_output=True, cwd="/")
        made = Server(folder)
        try:
            made.start()
            yield made
        finally:
            made.stop()
