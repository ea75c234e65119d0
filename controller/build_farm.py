"""Builds several modules at once, each only once, however many intents wait for it.

A build is known by its key (`controller.build`). What was built before comes from the store; what
is being built is waited for, by everyone who asks; when nobody waits any more, as all their
intents were revoked, the compiler is ended. Compilers are processes of their own, as many at a
time as there are processors for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from controller.build import BuildError
from controller.plan import Platform
from wire.artifact import Artifact
from wire.manifest import Manifest

log = logging.getLogger(__name__)

Note = Callable[[str], None]
"""Is told, in words for the operator, how far a build is."""


class Compiler(Protocol):
    """What the farm needs of `controller.build.Builder`."""

    def manifest(self, module: str) -> Manifest:
        """Return a module's manifest; raises BuildError."""

    async def key(self, module: str, platform: Platform) -> str:
        """Return the hash of everything that the output depends on; raises BuildError."""

    async def compile(self, module: str, platform: Platform, key: str) -> bytes:
        """Return the object code; raises BuildError."""


class Store(Protocol):
    """What the farm needs of `controller.artifacts.ArtifactStore`."""

    def built(self, key: str) -> str | None:
        """Return the digest of what a build gave, if it is still there."""

    async def put(self, key: str, artifact: Artifact) -> str:
        """Store what a build gave; return its digest."""


@dataclass(eq=False)
class _Build:
    """A build that somebody waits for."""

    what: str
    task: asyncio.Task[str] | None = None
    waiters: int = 0
    compiling: bool = False
    notes: list[Note] = field(default_factory=list)

    def say(self, text: str) -> None:
        for note in self.notes:
            note(text)


class BuildFarm:
    """See the module's text. All methods are called in one event loop."""

    def __init__(self, compiler: Compiler, store: Store, at_once: int | None = None) -> None:
        """Build with `compiler` into `store`; `at_once` is the number of processors if None."""
        self._compiler = compiler
        self._store = store
        self._places = asyncio.Semaphore(at_once or len(os.sched_getaffinity(0)))
        self._builds: dict[str, _Build] = {}
        self.counts: Counter[str] = Counter()
        """How often what was asked for was `cached`, `compiled` or `failed`."""
        self.seconds = 0.0
        """For which compilers ran, all together."""

    @property
    def compiling(self) -> list[str]:
        """What is being compiled at this moment."""
        return sorted(build.what for build in self._builds.values() if build.compiling)

    @property
    def waiting(self) -> list[str]:
        """What waits for a processor."""
        return sorted(build.what for build in self._builds.values() if not build.compiling)

    async def is_built(self, module: str, platform: Platform) -> bool:
        """Whether a module need not be compiled for a platform; raises BuildError."""
        return self._store.built(await self._compiler.key(module, platform)) is not None

    async def artifacts(
        self, module: str, platforms: Iterable[Platform], note: Note = lambda _: None
    ) -> dict[Platform, str]:
        """Return the digest of a module for each platform.

        Raises BuildError with the words of the first that fails; the others are given up then.
        """
        tasks = {
            platform: asyncio.create_task(self.artifact(module, platform, note))
            for platform in sorted(set(platforms))
        }
        try:
            digests = await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return dict(zip(tasks, digests, strict=True))

    async def artifact(self, module: str, platform: Platform, note: Note = lambda _: None) -> str:
        """Return the digest of a module for one platform, once it is in the store.

        Raises BuildError.
        """
        key = await self._compiler.key(module, platform)
        digest = self._store.built(key)
        if digest is not None:
            self.counts["cached"] += 1
            log.info("module=%s for=%s build=cached digest=%s", module, platform, digest)
            return digest
        build = self._builds.get(key)
        if build is None:
            build = self._builds[key] = _Build(f"{module} for {platform}")
            build.task = asyncio.create_task(self._make(build, module, platform, key))
        return await self._join(key, build, note)

    async def _join(self, key: str, build: _Build, note: Note) -> str:
        """Wait for a build, as one of those who do; the last who leaves ends it."""
        assert build.task is not None  # noqa: S101 - it is set where the build is entered
        build.waiters += 1
        build.notes.append(note)
        if build.compiling:
            note(f"compiling {build.what}")
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiters -= 1
            build.notes.remove(note)
            if not build.waiters:
                if self._builds.get(key) is build:
                    del self._builds[key]
                if build.task.cancel():
                    log.info("build=given-up what=%r", build.what)

    async def _make(self, build: _Build, module: str, platform: Platform, key: str) -> str:
        if self._places.locked():
            build.say(f"{build.what} waits for a processor, which other builds have")
        async with self._places:
            build.compiling = True
            build.say(f"compiling {build.what}")
            began = time.monotonic()
            try:
                data = await self._compiler.compile(module, platform, key)
            except BuildError as error:
                self.counts["failed"] += 1
                raise BuildError(f"{build.what}: {error}") from error
            finally:
                self.seconds += time.monotonic() - began
            self.counts["compiled"] += 1
            version = self._compiler.manifest(module).version
            artifact = Artifact(module, version, platform.target, data, platform.kernel)
            digest = await self._store.put(key, artifact)
            log.info("module=%s for=%s build=compiled digest=%s", module, platform, digest)
            return digest
