"""One boot for each kernel, from which all tests of that kernel read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import kernels, machine
from tests.vm.kernels import Build, Kernel
from tests.vm.machine import Ended, Guest

FOLDER = Path(__file__).parent
CHECKS = sorted((FOLDER / "checks").glob("*.sh"))
FAULTS = [FOLDER / "faults" / name for name in ("leaky.sh", "well.sh")]


@pytest.fixture(scope="session", params=kernels.SERIES)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return kernels.named(request.param)


@pytest.fixture(scope="session")
def build(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build it from the beginning, so that nothing that the compiler says is missed."""
    return kernels.build_modules(kernel, tmp_path_factory.mktemp(f"kmod-{kernel.release}"))


@pytest.fixture(scope="session")
def programs() -> None:
    built = kernels.build_programs()
    assert built.code == 0, built.log


@pytest.fixture(scope="session")
def accelerator() -> str:
    return machine.accelerator(kernels.named(kernels.SERIES[0]))


@pytest.fixture(scope="session")
def guest(
    kernel: Kernel,
    build: Build,
    programs: None,
    accelerator: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Ended:
    """Boot once, run all checks, and give what is left of it."""
    share = tmp_path_factory.mktemp(f"guest-{kernel.release}")
    modules = kernels.modules_in(build.folder)
    return machine.run(Guest(kernel, accelerator, [*CHECKS, *FAULTS], modules, {}), share)
