"""How the testbed's processes are ended, and how it keeps others of its kind away."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from mininet_topos import openvswitch, processes
from mininet_topos.processes import Processes, TestbedError, doing, end
from tests.waiting import PATIENCE

STUBBORN = "trap '' TERM; echo ready; exec sleep 1000"


class Immortal:
    """A child that the kernel does not end."""

    pid = os.getpid()

    def poll(self) -> None:
        return None

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, seconds: float) -> int:
        raise subprocess.TimeoutExpired("immortal", seconds)


def immortal() -> subprocess.Popen[bytes]:
    return cast("subprocess.Popen[bytes]", Immortal())


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"])


def test_who_leaves_is_not_killed(caplog: pytest.LogCaptureFixture) -> None:
    child = sleeper()
    end("sleeper", child)
    assert child.returncode == -15
    assert caplog.text == ""
    end("sleeper", child)
    assert caplog.text == "", "it has ended before"


def test_who_does_not_leave_is_killed_and_the_log_says_what_it_was_doing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    with subprocess.Popen(["sh", "-c", STUBBORN], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        end("stubborn", child)
    assert child.returncode == -9
    assert "process=stubborn" in caplog.text
    assert "State: S (sleeping)" in caplog.text


def test_one_that_does_not_end_is_named_and_the_others_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Processes(tmp_path)
    first = running.start("first", ["sleep", "1000"])
    running.start("second", ["true"], popen=lambda *_, **__: immortal())
    with pytest.raises(TestbedError, match=r"second .* is still there .* after SIGKILL"):
        running.stop()
    assert not first.running
    running.stop()


def test_what_a_process_is_about_can_be_asked_of_any() -> None:
    assert doing(os.getpid()).startswith("State: R (running)")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert doing(child.pid).startswith("unknown: ")


def test_waiting_ends_with_the_process_that_is_waited_for(tmp_path: Path) -> None:
    started = Processes(tmp_path).start("brief", ["sh", "-c", "echo no such thing; exit 1"])
    started.popen.wait()
    with pytest.raises(TestbedError, match=r"it answers: ended; log of brief:\nno such thing"):
        processes.wait_until(lambda: False, "it answers", process=started)


@pytest.mark.parametrize("same", ["network namespace", "file system"])
def test_two_testbeds_share_neither_names_nor_places(
    same: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvswitch, "LOCK", f"\0l45-test-{os.getpid()}")
    monkeypatch.setattr(openvswitch, "RUN", tmp_path / "one" / "openvswitch")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    with openvswitch.alone():
        if same == "file system":
            monkeypatch.setattr(openvswitch, "LOCK", f"\0l45-test-other-{os.getpid()}")
        else:
            monkeypatch.setattr(openvswitch, "RUN", tmp_path / "other" / "openvswitch")
        with pytest.raises(openvswitch.OpenVSwitchError, match="wait for its end"):
            openvswitch.alone(seconds=0).__enter__()
    with openvswitch.alone():
        pass


def test_the_end_of_another_testbed_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvswitch, "LOCK", f"\0l45-test-{os.getpid()}")
    monkeypatch.setattr(openvswitch, "RUN", tmp_path / "openvswitch")
    with ThreadPoolExecutor(1) as other, ExitStack() as second:
        with openvswitch.alone():
            waiting = other.submit(second.enter_context, openvswitch.alone(PATIENCE))
            processes.wait_until(lambda: "waiting 60 s at most" in caplog.text, "it waits")
            assert not waiting.done()
        waiting.result()
