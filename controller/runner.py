"""Drives the orchestrator: settles when something happened, and has builds done beside it."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from functools import partial

from controller.build import BuildError
from controller.build_farm import BuildFarm
from controller.cib import read_all
from controller.database import Database
from controller.errors import Unavailable
from controller.orchestrator import BuildOrder, Orchestrator
from controller.phases import Phase

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.05

TOGETHER = 0.02
"""Seconds in which what happens is gathered at most, to be settled and committed together. It is
as long as settling took, so half of the time is left for what agents say."""

RETRY = 1.0
"""Seconds at the most after which to settle again when it failed again, on a full disk say."""

BUILD_AGAIN = 5.0
"""Seconds after which to build again what there was no room for."""


class Runner:
    """The orchestrator's loop. `wake` is called whenever something happened."""

    def __init__(self, farm: BuildFarm, database: Database) -> None:
        self._farm = farm
        self._database = database
        self._due = asyncio.Event()
        self._builds: dict[str, asyncio.Task[None]] = {}
        self._pause = 0.0
        self.observers: list[Callable[[float, float], None]] = []
        """Are told how many seconds it took to decide what is to be, and to commit it."""

    def wake(self) -> None:
        """Say that `settle` is due."""
        self._due.set()

    async def run(self, orchestrator: Orchestrator, settled: Callable[[], None]) -> None:
        """Run until cancelled; `settled` is called after each time."""
        try:
            while True:
                self._due.clear()
                began = asyncio.get_running_loop().time()
                await self._wait(began, await self._settle(orchestrator, settled))
        finally:
            for task in self._builds.values():
                task.cancel()
            await asyncio.gather(*self._builds.values(), return_exceptions=True)

    async def _settle(
        self, orchestrator: Orchestrator, settled: Callable[[], None]
    ) -> float | None:
        try:
            began = time.monotonic()
            done = orchestrator.settle()
            decided = time.monotonic()
            if done.store is not None:
                await self._database.submit(done.store)
                self._observe(decided - began, time.monotonic() - decided)
            orchestrator.committed()
            settled()
            self._start_builds(orchestrator)
        except Unavailable as error:
            log.warning("what happened could not be committed, and is taken back: %s", error)
            await self._go_back(orchestrator, str(error))
            return 0.0
        except Exception:
            log.exception("settling failed; the last committed state stays in force")
            await self._go_back(orchestrator, "the change could not be committed: see the log")
            return 0.0
        self._pause = 0.0
        return done.delay

    def _observe(self, deciding: float, committing: float) -> None:
        for observer in self.observers:
            observer(deciding, committing)

    async def _go_back(self, orchestrator: Orchestrator, reason: str) -> None:
        """Go on from what the database holds, as soon as it can be read.

        What agents said counts again at once, so a failure that lasts would be a busy loop: each
        one is followed by a longer pause, until it is over.
        """
        while True:
            try:
                orchestrator.restore(await self._database.read(read_all), reason)
            except Unavailable as error:
                orchestrator.failed(reason)
                log.warning("the last committed state cannot be read yet: %s", error)
                await self._be_patient()
            else:
                return await self._be_patient()

    async def _be_patient(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), RETRY)

    async def _wait(self, began: float, delay: float | None) -> None:
        """Wait until it is time to settle again: at once where nothing was settled lately."""
        ended = asyncio.get_running_loop().time()
        try:
            await asyncio.wait_for(self._due.wait(), delay)
        except TimeoutError:
            return
        gathered = asyncio.get_running_loop().time() - ended
        rest = min(TOGETHER, ended - began) - gathered
        await asyncio.sleep(max(0.0, rest))

    def _start_builds(self, orchestrator: Orchestrator) -> None:
        orders = {order.key: order for order in orchestrator.to_build()}
        for key, task in list(self._builds.items()):
            if task.done():
                del self._builds[key]
            elif key not in orders:
                task.cancel()  # revoked meanwhile
        for key, order in orders.items():
            if key not in self._builds:
                self._builds[key] = asyncio.create_task(self._build(orchestrator, order))

    async def _build(self, orchestrator: Orchestrator, order: BuildOrder) -> None:
        try:
            await self._build_once(orchestrator, order)
        except (Unavailable, OSError) as error:
            log.warning("intent=%s its build cannot be kept yet: %s", order.intent, error)
            await asyncio.sleep(BUILD_AGAIN)
            self.wake()
        except Exception:
            log.exception("intent=%s what became of its build cannot be noted yet", order.intent)
            await asyncio.sleep(RETRY)
            self.wake()

    async def _build_once(self, orchestrator: Orchestrator, order: BuildOrder) -> None:
        try:
            note = partial(orchestrator.history.add, order.intent, Phase.BUILDING)
            digests = await self._farm.artifacts(order.module, order.platforms, note)
        except BuildError as error:
            orchestrator.build_failed(order, str(error))
        except Exception as error:
            if _is_passing(error):
                raise
            log.exception("intent=%s build failed", order.intent)
            orchestrator.build_failed(order, f"the build failed: {error}")
        else:
            orchestrator.built(order, digests)


def _is_passing(error: Exception) -> bool:
    """Whether the same may succeed later, without anybody asking for something else."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, Unavailable)
