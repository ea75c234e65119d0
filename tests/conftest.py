"""What all tests share: system tests need root, and say so where they are skipped."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: namespaces, Open vSwitch, eBPF (sudo make test)")
    for item in items:
        if item.get_closest_marker("system"):
            item.add_marker(skip)
