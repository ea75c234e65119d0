"""One boot for each kernel, from which all tests of that kernel read."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.machine import ROOT, Ended, Kernel

SERIES = ("6.1", "6.12")


@dataclass(frozen=True)
class Build:
    """What came out of building l45_core_test.ko for a kernel."""

    folder: Path
    code: int
    log: str

    @property
    def module(self) -> Path:
        return self.folder / "kmod" / "l45_core_test.ko"


@pytest.fixture(scope="session", params=SERIES)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    found = machine.newest(request.param)
    missing = ", ".join(map(str, found.missing()))
    assert not missing, f"{missing}: missing; apt-get install --reinstall its packages"
    return found


@pytest.fixture(scope="session")
def core_test(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build it from the beginning, so that nothing that the compiler says is missed."""
    folder = tmp_path_factory.mktemp(f"kmod-{kernel.release}")
    command = ["make", "-C", f"{ROOT}/kernel_tap/kmod", f"KERNEL={kernel.release}", f"OUT={folder}"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Build(folder, done.returncode, done.stdout)


@pytest.fixture(scope="session")
def accelerator() -> str:
    return machine.accelerator(machine.newest(SERIES[0]))


@pytest.fixture(scope="session")
def guest(
    kernel: Kernel, core_test: Build, accelerator: str, tmp_path_factory: pytest.TempPathFactory
) -> Ended:
    """Boot once, run all checks, and give what is left of it."""
    share = tmp_path_factory.mktemp(f"guest-{kernel.release}")
    if core_test.code == 0:
        shutil.copy(core_test.module, share)
    return machine.run(kernel, accelerator, share)
