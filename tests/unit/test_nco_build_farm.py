"""Builds at once, each once, given up with the last who waits; with a compiler made of events."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from controller.build import Builder, BuildError
from controller.build_farm import BuildFarm
from controller.config import KERNEL_TAP
from controller.plan import Platform
from tests.unit.nco_kit import make_module
from wire.artifact import Artifact
from wire.manifest import Manifest, load

BPF, OLD, NEW = Platform("bpf"), Platform("kmod", "6.1.0"), Platform("kmod", "6.12.0")


class Compiler:
    """Compiles when it is told to; `running` is what it works at, in the order it began."""

    def __init__(self, folder: Path) -> None:
        make_module(folder)
        self._manifest = load(folder / "idle" / "manifest.toml")
        self.go = asyncio.Event()
        self.running: list[str] = []
        self.most = 0
        self.ended: list[str] = []

    def manifest(self, module: str) -> Manifest:
        return self._manifest

    async def key(self, module: str, platform: Platform) -> str:
        return f"{module} {platform}"

    async def compile(self, module: str, platform: Platform, key: str) -> bytes:
        self.running.append(key)
        self.most = max(self.most, len(self.running))
        try:
            await self.go.wait()
            if module == "broken":
                raise BuildError("clang failed:\nno such thing")
            return key.encode()
        finally:
            self.running.remove(key)
            self.ended.append(key)


class Store(dict[str, str]):
    """Keeps digests by build key."""

    def built(self, key: str) -> str | None:
        return self.get(key)

    async def put(self, key: str, artifact: Artifact) -> str:
        self[key] = artifact.digest
        return artifact.digest


class Yard:
    """A farm with its compiler and store."""

    def __init__(self, folder: Path, at_once: int = 2) -> None:
        self.compiler = Compiler(folder)
        self.store = Store()
        self.farm = BuildFarm(self.compiler, self.store, at_once)
        self.said: list[str] = []

    def ask(self, *platforms: Platform, module: str = "idle") -> asyncio.Task[dict[Platform, str]]:
        return asyncio.create_task(self.farm.artifacts(module, platforms, self.said.append))


async def quiet() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def test_several_at_once_and_no_more_than_there_are_processors(tmp_path: Path) -> None:
    async def test() -> None:
        yard = Yard(tmp_path)
        task = yard.ask(BPF, OLD, NEW)
        await quiet()
        assert len(yard.farm.compiling) == 2
        assert len(yard.farm.waiting) == 1
        yard.compiler.go.set()
        digests = await task
        assert set(digests) == {BPF, OLD, NEW}
        assert set(digests.values()) == set(yard.store.values())
        assert yard.compiler.most == 2
        assert "compiling idle for kmod 6.1.0" in yard.said
        assert any("waits for a processor" in text for text in yard.said)
        assert yard.farm.compiling == yard.farm.waiting == []

    run(test())


def test_who_asks_for_what_is_being_built_waits_with_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        yard = Yard(tmp_path)
        tasks = [yard.ask(BPF) for _ in range(5)]
        await quiet()
        assert yard.compiler.running == ["idle bpf"]
        yard.compiler.go.set()
        assert len({(await task)[BPF] for task in tasks}) == 1
        assert (await yard.ask(BPF))[BPF] == yard.store["idle bpf"]
        assert yard.compiler.ended == ["idle bpf"], "one build for all"

    run(test())


def test_a_build_ends_with_the_last_who_waits_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        yard = Yard(tmp_path)
        one, other = yard.ask(BPF), yard.ask(BPF)
        await quiet()
        one.cancel()
        await quiet()
        assert yard.compiler.running == ["idle bpf"]
        other.cancel()
        await quiet()
        assert yard.compiler.running == []
        assert yard.store == {}
        again = yard.ask(BPF)
        yard.compiler.go.set()
        assert (await again)[BPF] == yard.store["idle bpf"]

    run(test())


def test_the_compilers_words_come_with_what_was_compiled(tmp_path: Path) -> None:
    async def test() -> None:
        yard = Yard(tmp_path)
        yard.compiler.go.set()
        with pytest.raises(BuildError, match=r"broken for bpf: clang failed:\nno such thing"):
            await yard.ask(BPF, module="broken")
        again = yard.ask(BPF, module="broken")
        with pytest.raises(BuildError):
            await again
        assert yard.compiler.ended == ["broken bpf"] * 2, "a failure is not kept"

    run(test())


def test_one_that_fails_gives_up_the_others(tmp_path: Path) -> None:
    class HalfBroken(Compiler):
        async def compile(self, module: str, platform: Platform, key: str) -> bytes:
            if platform == OLD:
                raise BuildError("make failed")
            return await super().compile(module, platform, key)

    async def test() -> None:
        yard = Yard(tmp_path)
        yard.compiler = HalfBroken(tmp_path)
        yard.farm = BuildFarm(yard.compiler, yard.store, 2)
        with pytest.raises(BuildError, match=r"idle for kmod 6\.1\.0: make failed"):
            await yard.ask(BPF, OLD)
        assert yard.compiler.running == []

    run(test())


def test_giving_up_ends_a_real_compiler(tmp_path: Path) -> None:
    """The source includes a pipe that nobody writes to, so the compiler waits for ever."""
    make_module(tmp_path / "modules", source='#include "never.h"\n')
    os.mkfifo(tmp_path / "modules" / "idle" / "never.h")

    async def test() -> None:
        farm = BuildFarm(Builder(tmp_path / "modules", KERNEL_TAP, 60), Store())
        task = asyncio.create_task(farm.artifacts("idle", [BPF]))
        await until(lambda: bool(compilers(tmp_path)))
        assert farm.compiling == ["idle for bpf"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not compilers(tmp_path))

    asyncio.run(asyncio.wait_for(test(), 60))


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


def compilers(folder: Path) -> list[Path]:
    """Return the processes that compile something in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if str(folder).encode() in words and b"clang" in words:
                found.append(path)
    return found
