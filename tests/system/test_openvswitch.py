"""Open vSwitch that somebody runs elsewhere is not taken for one that runs here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mininet_topos import openvswitch

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have daemons that answer, as they do wherever their sockets can be reached."""
    monkeypatch.setattr(openvswitch, "RUN", tmp_path)
    monkeypatch.setattr(openvswitch, "_answers", lambda daemon: True)


def test_one_of_another_network_namespace_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"],
                          stdout=subprocess.PIPE) as foreign:  # fmt: skip
        assert foreign.stdout is not None
        foreign.stdout.readline()
        (tmp_path / "ovsdb-server.pid").write_text(f"{foreign.pid}\n")
        try:
            with (
                pytest.raises(openvswitch.OpenVSwitchError, match="in another network namespace"),
                openvswitch.ensure_running(),
            ):
                pass
        finally:
            foreign.kill()


def test_one_that_runs_here_is_used_and_left(tmp_path: Path) -> None:
    for daemon in (openvswitch.DATABASE, openvswitch.SWITCH):
        (tmp_path / f"{daemon}.pid").write_text(f"{os.getpid()}\n")
    with openvswitch.ensure_running():
        pass
    assert len(list(tmp_path.iterdir())) == 2
