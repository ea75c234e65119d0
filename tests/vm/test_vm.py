"""The checks of `checks/` in each kernel, and what the kernel said meanwhile."""

from __future__ import annotations

import pytest

from tests.vm.conftest import CHECKS
from tests.vm.kernels import Build
from tests.vm.machine import GUEST_SECONDS, KVM_SECONDS, Ended

# The first test of a kernel builds, boots, and waits for all checks.
pytestmark = pytest.mark.timeout(GUEST_SECONDS + KVM_SECONDS + 120)


def test_everything_compiles_without_a_warning(build: Build) -> None:
    assert build.code == 0, build.log
    assert "warning" not in build.log.lower(), build.log


@pytest.mark.parametrize("check", [path.stem for path in CHECKS])
def test_check(guest: Ended, check: str) -> None:
    assert not guest.reasons(check), guest.report(check)


def test_guest_ends_by_itself(guest: Ended) -> None:
    assert guest.is_complete, guest.tail


def test_kernel_does_not_complain(guest: Ended) -> None:
    assert not guest.complaints(), f"{guest.complaints()}\n{guest.tail}"
