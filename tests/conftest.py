"""What all tests share: system tests need root, and say so where they are skipped."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# No deadlines: a loaded machine is no fault of what is tested. CI plays the same games each time,
# so that it judges the change; `pytest --hypothesis-profile=search` plays others (docs/fuzzing.md).
settings.register_profile("l45", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("l45")

# Who runs the tests in the background of a script (`make test &`) has them ignore Ctrl-C, and so
# would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: namespaces, Open vSwitch, eBPF (sudo make test)")
    for item in items:
        if item.get_closest_marker("system"):
            item.add_marker(skip)
