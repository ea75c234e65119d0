"""The checks of `checks/` in each kernel, and what the kernel said meanwhile."""

from __future__ import annotations

import re

import pytest

from tests.vm.conftest import CHECKS
from tests.vm.kernels import Build
from tests.vm.machine import GUEST_SECONDS, KVM_SECONDS, Ended

FAULTS_OF_LEAKY = (
    r"ended with 3",
    r"process left: \d+ sleep 1000 ",
    r"process left: \d+ (unshare --net )?sleep 1001 ",
    r"network namespace left: l45-leak",
    r"module left: l45 .*",
    r"networks left: is l45-a@l45-b 1 was 0",
    r"sockets left: is slab:TCP \d+ was \d+",
    r"kernel error: .*l45: not as it should be",
    r".*WARNING: not as it should be",
)

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


@pytest.mark.parametrize("fault", FAULTS_OF_LEAKY)
def test_whatever_is_left_behind_is_told(guest: Ended, fault: str) -> None:
    reasons = guest.reasons("leaky")
    assert [reason for reason in reasons if re.fullmatch(fault, reason)], reasons


def test_what_is_left_behind_is_not_held_against_the_next(guest: Ended) -> None:
    assert not guest.reasons("well"), guest.report("well")
