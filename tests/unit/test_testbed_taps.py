"""Taps of the testbed: what is loaded for it is unloaded again, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from host_agent import kernel_modules
from host_agent import taps as agent_taps
from host_agent.tap import Tap, TapError, TapStatus
from host_agent.taps import Kind
from mininet_topos import taps
from mininet_topos.processes import TestbedError
from tests.unit.agent_kit import MemoryTap

Said = list[str]


def driver() -> Tap:
    return MemoryTap()


def kind(name: str, said: Said, loaded: bool = False, faults: int = 0) -> Kind:
    """Return a tap that says what is done to it; unloading it fails some times."""
    left = [TapError("in use")] * faults

    def uninstall() -> None:
        if left:
            raise left.pop()
        said.append(f"unload {name}")

    return Kind(
        name,
        unavailable=lambda: None,
        installed=lambda: loaded,
        install=lambda: said.append(f"load {name}"),
        uninstall=uninstall,
        status=lambda: TapStatus(loaded),
        driver=driver,
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    said: Said = []
    monkeypatch.setattr(agent_taps, "needs_root", lambda: None)
    monkeypatch.setattr(taps, "without_kmod", lambda log: None)
    monkeypatch.setattr(taps.kmod_tap, "sweep", lambda run: said.append("sweep"))
    monkeypatch.setattr(taps.time, "sleep", lambda seconds: said.append("wait"))
    return said


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def have(*kinds: Kind) -> None:
        def chosen(choice: str, run: Path) -> list[Kind]:
            return [kind for kind in kinds if choice in ("auto", kind.name)]

        monkeypatch.setattr(agent_taps, "kinds", chosen)

    return have


def test_both_come_and_go(tmp_path: Path, said: Said, have: Callable[..., None]) -> None:
    have(kind("kmod", said, faults=1), kind("bpf", said))
    with taps.loaded(tmp_path, tmp_path / "log") as choice:
        assert choice == "auto"
    assert said == ["load kmod", "load bpf", "unload bpf", "wait", "unload kmod"]


def test_without_modules_it_is_ebpf(
    tmp_path: Path, said: Said, have: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps, "without_kmod", lambda log: "this kernel takes no modules")
    have(kind("kmod", said), kind("bpf", said))
    with taps.loaded(tmp_path, tmp_path / "log") as choice:
        assert choice == "bpf"
    assert said == ["load bpf", "unload bpf"]


def test_what_was_loaded_before_stays(
    tmp_path: Path, said: Said, have: Callable[..., None]
) -> None:
    have(kind("kmod", said, loaded=True))
    with taps.loaded(tmp_path, tmp_path / "log"):
        pass
    assert said == ["sweep"]


def test_what_cannot_be_unloaded_is_told(
    tmp_path: Path, said: Said, have: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps, "UNLOAD_SECONDS", 0.0)
    have(kind("kmod", said, faults=9))
    with pytest.raises(TestbedError, match="in use"), taps.loaded(tmp_path, tmp_path / "log"):
        pass


@pytest.mark.parametrize(
    ("refusal", "build", "reason"),
    [
        ("takes no modules", 0, "takes no modules"),
        (None, None, "apt-get install linux-headers-"),
        (None, 2, "does not compile"),
        (None, 0, None),
    ],
)
def test_why_there_is_no_kernel_tap(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str | None,
    build: int | None,
    reason: str | None,
) -> None:
    def make(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, build or 0)

    monkeypatch.setattr(kernel_modules, "refusal", lambda: refusal)
    monkeypatch.setattr(taps, "MODULES", tmp_path)
    monkeypatch.setattr(taps.subprocess, "run", make)
    if build is not None:  # there are headers
        (tmp_path / os.uname().release / "build").mkdir(parents=True)
    found = taps.without_kmod(tmp_path / "log")
    assert found is None if reason is None else reason in str(found)
