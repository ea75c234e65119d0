"""The loop that settles and builds goes on when the CIB could not be written for a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller import runner
from controller.artifacts import ArtifactStore
from controller.build import Builder
from controller.build_farm import BuildFarm
from controller.cib import Cib
from controller.config import KERNEL_TAP
from controller.history import History
from controller.intent import Intent
from controller.modules import ModuleLibrary
from controller.orchestrator import BuildOrder, Orchestrator
from controller.phases import Phase
from controller.plan import Platform
from tests.unit.nco_kit import intent, make_module, opened_cib
from wire.messages import Hello, NcoMessage


class Deaf:
    """A connection to an agent that never answers."""

    def send(self, message: NcoMessage) -> None:
        pass

    def refuse(self, reason: str) -> None:
        pass


class Failing(Orchestrator):
    """Cannot write the first time it settles, looks for builds, and hears of one."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.failed: set[str] = set()
        super().__init__(*args, **kwargs)  # type: ignore[arg-type] # as they are

    def settle(self) -> float | None:
        self._fail("settle")
        return super().settle()

    def to_build(self) -> list[BuildOrder]:
        self._fail("to_build")
        return super().to_build()

    def built(self, order: BuildOrder, digests: dict[Platform, str]) -> None:
        self._fail("built")
        super().built(order, digests)

    def _fail(self, what: str) -> None:
        if what not in self.failed:
            self.failed.add(what)
            raise OSError("the disk is full")


def make_orchestrator(folder: Path, cib: Cib, artifacts: ArtifactStore) -> Failing:
    orchestrator = Failing(
        cib,
        ModuleLibrary(folder / "modules"),
        artifacts,
        History(lambda: 0.0),
        control=("10.10.0.5", 4545),
        linger=0,
        clock=lambda: 0.0,
        changed=lambda: None,
    )
    for name, address in (("h1", "10.10.0.1"), ("dns", "10.10.0.3")):
        hello = Hello(host=name, boot_id="b", kernel="k", targets=["bpf"], addresses=[address])
        orchestrator.connected(Deaf(), hello)
    orchestrator.apply(Intent.model_validate(intent()))
    return orchestrator


def test_what_could_not_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "RETRY", 0.01)
    make_module(tmp_path / "modules")
    (tmp_path / "artifacts").mkdir()

    async def until_built(cib: Cib) -> None:
        store = ArtifactStore(cib, tmp_path / "artifacts", Ed25519PrivateKey.generate())
        orchestrator = make_orchestrator(tmp_path, cib, store)
        loop = runner.Runner(BuildFarm(Builder(tmp_path / "modules", KERNEL_TAP, 60), store))
        task = asyncio.create_task(loop.run(orchestrator, settled=lambda: None))
        row = cib.intent("tag")
        assert row is not None
        for _ in range(3000):
            if row.phase != Phase.BUILDING:
                break
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        assert row.phase == Phase.RECEIVE
        assert orchestrator.failed == {"settle", "to_build", "built"}

    with opened_cib(tmp_path / "nco.db") as cib:
        asyncio.run(until_built(cib))
    assert "the disk is full" in caplog.text
