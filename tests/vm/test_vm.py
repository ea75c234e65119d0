"""The checks of `checks/` in each kernel, and what the kernel said meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.conftest import Build
from tests.vm.machine import GUEST_SECONDS, KVM_SECONDS, Ended

CHECKS = sorted(path.stem for path in (Path(__file__).parent / "checks").glob("*.sh"))

# The first test of a kernel builds, boots, and waits for all checks.
pytestmark = pytest.mark.timeout(GUEST_SECONDS + KVM_SECONDS + 60)


def test_core_and_modules_compile_without_a_warning(core_test: Build) -> None:
    assert core_test.code == 0, core_test.log
    assert "warning" not in core_test.log.lower(), core_test.log


@pytest.mark.parametrize("check", CHECKS)
def test_check(guest: Ended, check: str) -> None:
    assert guest.code(check) == 0, f"{guest.output(check)}\nKernel:\n{guest.log_of(check)}"


def test_guest_ends_by_itself(guest: Ended) -> None:
    assert guest.is_complete, guest.tail


def test_kernel_does_not_complain(guest: Ended) -> None:
    assert not guest.complaints(), f"{guest.complaints()}\n{guest.tail}"
