"""The loop that settles and builds goes on when the CIB could not be written for a moment."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller import runner
from controller.artifacts import ArtifactStore
from controller.build import Builder
from controller.build_farm import BuildFarm
from controller.cib import Cib
from controller.config import KERNEL_TAP
from controller.database import Database, Result
from controller.errors import Unavailable
from controller.history import History
from controller.intent import Intent
from controller.modules import ModuleLibrary
from controller.orchestrator import BuildOrder, Orchestrator, Settled
from controller.phases import Phase
from controller.plan import Platform
from tests.unit.nco_kit import intent, make_module, opened
from wire.messages import Hello, NcoMessage


class Deaf:
    """A connection to an agent that never answers."""

    def send(self, message: NcoMessage) -> None:
        pass

    def refuse(self, reason: str) -> None:
        pass


class Failing(Orchestrator):
    """Fails the first time it settles, looks for builds, and hears of one, once it may."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.may_fail = False
        self.faults: set[str] = set()
        super().__init__(*args, **kwargs)  # type: ignore[arg-type] # as they are

    def settle(self) -> Settled:
        self._fail("settle")
        return super().settle()

    def to_build(self) -> list[BuildOrder]:
        self._fail("to_build")
        return super().to_build()

    def built(self, order: BuildOrder, digests: Mapping[Platform, str]) -> None:
        self._fail("built")
        super().built(order, digests)

    def _fail(self, what: str) -> None:
        if self.may_fail and what not in self.faults:
            self.faults.add(what)
            raise OSError("no luck")


class Setting:
    """An orchestrator with two hosts, and its loop."""

    def __init__(self, folder: Path, cib: Cib, database: Database) -> None:
        artifacts = ArtifactStore(cib, database, folder / "artifacts", Ed25519PrivateKey.generate())
        builder = Builder(folder / "modules", KERNEL_TAP, 60)
        self.runner = runner.Runner(BuildFarm(builder, artifacts), database)
        self.nco = Failing(
            cib,
            ModuleLibrary(folder / "modules"),
            artifacts,
            History(lambda: 0.0),
            control=("10.10.0.5", 4545),
            linger=0,
            clock=lambda: 0.0,
            changed=self.runner.wake,
        )
        for name, address in (("h1", "10.10.0.1"), ("dns", "10.10.0.3")):
            hello = Hello(host=name, boot_id="b", kernel="k", targets=["bpf"], addresses=[address])
            self.nco.connected(Deaf(), hello)

    async def apply(self, name: str = "tag", **changes: object) -> None:
        self.nco.apply(Intent.model_validate(intent(name, **changes)))
        await self.nco.saved()

    def phase(self, name: str = "tag") -> Phase | None:
        state = self.nco.cib.intent(name)
        return state.phase if state else None


async def reached(setting: Setting, phase: Phase) -> None:
    for _ in range(3000):
        if setting.phase() == phase:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{phase} was not reached")


def run(folder: Path, test: Callable[[Setting, Database], Awaitable[None]]) -> None:
    """Run a test beside the orchestrator's loop."""
    make_module(folder / "modules")
    (folder / "artifacts").mkdir(exist_ok=True)

    async def both() -> None:
        with opened(folder / "nco.db") as (cib, database):
            setting = Setting(folder, cib, database)
            loop = asyncio.create_task(setting.runner.run(setting.nco, settled=lambda: None))
            try:
                await test(setting, database)
                assert not loop.done()
            finally:
                loop.cancel()
                await asyncio.gather(loop, return_exceptions=True)

    asyncio.run(both())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY", 0.01)
    monkeypatch.setattr("controller.database_engine.PATIENCE", 0.1)


def test_what_failed_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(setting: Setting, _: Database) -> None:
        await setting.apply()
        setting.nco.may_fail = True
        setting.runner.wake()
        await reached(setting, Phase.RECEIVE)
        assert setting.nco.faults == {"settle", "to_build", "built"}

    run(tmp_path, test)
    assert "no luck" in caplog.text


def test_a_failure_that_lasts_is_no_busy_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(runner, "RETRY", 60.0)

    async def test(setting: Setting, database: Database) -> None:
        await setting.apply()
        tries = []

        def refuse(_: object) -> Result[None]:
            tries.append(1)
            result = Result[None]()
            result.set_exception(Unavailable("the disk is full"))
            return result

        monkeypatch.setattr(database, "submit", refuse)
        for name in ("one", "two"):
            setting.nco.label_host("h1", {f"a={name}"}, set())
            with pytest.raises(Unavailable):
                await setting.nco.saved()
        for _ in range(40):
            setting.nco.label_host("h1", {"a=b"}, set())
            setting.runner.wake()
            await asyncio.sleep(0.01)
        assert len(tries) < 10

    run(tmp_path, test)


def test_a_caller_is_answered_after_the_commit_or_told_why_not(tmp_path: Path) -> None:
    """While the file is locked nothing is promised; the loop goes on, and later it works."""

    async def test(setting: Setting, _: Database) -> None:
        await setting.apply("first", port=5353)
        with closing(sqlite3.connect(tmp_path / "nco.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await setting.apply()
            assert setting.phase() is None
            assert setting.phase("first") is not None
        await setting.apply()
        assert setting.phase() is not None

    run(tmp_path, test)


def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    async def apply(setting: Setting, _: Database) -> None:
        await setting.apply()

    async def look(setting: Setting, _: Database) -> None:
        assert setting.phase() is not None

    run(tmp_path, apply)
    run(tmp_path, look)
