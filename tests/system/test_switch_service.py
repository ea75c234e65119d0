"""ryu-manager as the parent of the real NCO service, and the plain `mn` command."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mininet_topos import openvswitch
from mininet_topos.processes import Process, Processes, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SCRIPTS = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent
SYSTEM_MN = "/usr/bin/mn"
ALL_PINGS = "Results: 0% dropped (30/30 received)"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Nco:
    """ryu-manager with a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.processes = Processes(folder)
        subprocess.run(
            [str(SCRIPTS / "nco"), "init", "--state", str(self.state), "--address", "127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        config = self.state / "nco.toml"
        text = config.read_text(encoding="utf-8")
        listen = f'listen = "127.0.0.1:{free_port()}"'
        config.write_text(re.sub(r"(?m)^listen = .*$", listen, text), encoding="utf-8")

    def start_ryu(
        self, *more: str, port: int | None = None, app: str = "apps/nco.py", **environment: str
    ) -> Process:
        port = port or free_port()
        return self.processes.start(
            "ryu",
            [str(SCRIPTS / "ryu-manager"), "--ofp-tcp-listen-port", str(port), app, *more],
            env=os.environ | {"L45_STATE": str(self.state)} | environment,
        )

    def linked(self, ryu: Process, times: int = 1) -> bool:
        log = ryu.log.read_text(encoding="utf-8")
        return log.count("service connected pid=") == times

    def service(self) -> int | None:
        """Return the pid of the service that holds the state folder."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"controller.service" in arguments and str(self.state).encode() in arguments:
                    return int(entry.name)
        return None


@pytest.fixture
def nco(tmp_path: Path) -> Iterator[Nco]:
    made = Nco(tmp_path)
    try:
        yield made
    finally:
        made.processes.stop()
        if pid := made.service():
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: made.service() is None, "the service is gone")


def test_the_service_is_started_and_restarted_when_it_dies(nco: Nco) -> None:
    ryu = nco.start_ryu()
    wait_until(lambda: nco.linked(ryu), "the service answers", process=ryu)
    first = nco.service()
    assert first
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: nco.linked(ryu, times=2), "a new service answers", process=ryu)
    assert nco.service() not in (None, first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_nco_as_a_whole(nco: Nco, number: signal.Signals) -> None:
    ryu = nco.start_ryu()
    wait_until(lambda: nco.linked(ryu), "the service answers", process=ryu)
    ryu.popen.send_signal(number)
    assert ryu.popen.wait(20) == 0
    wait_until(lambda: nco.service() is None, "the service is gone")
    assert "Traceback" not in ryu.log.read_text(encoding="utf-8")


def test_a_killed_ryu_leaves_the_service_and_a_new_one_takes_it_over(nco: Nco) -> None:
    ryu = nco.start_ryu()
    wait_until(lambda: nco.linked(ryu), "the service answers", process=ryu)
    service = nco.service()
    ryu.kill()
    assert nco.service() == service
    again = nco.start_ryu()
    wait_until(lambda: nco.linked(again, times=2), "the same service answers", process=again)
    assert nco.service() == service
    again.popen.send_signal(signal.SIGINT)
    assert again.popen.wait(20) == 0
    wait_until(lambda: nco.service() is None, "the service that was taken over is gone")


def test_a_state_folder_that_is_not_there_is_tried_again_and_said(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    try:
        ryu = processes.start(
            "ryu",
            [
                str(SCRIPTS / "ryu-manager"),
                "--ofp-tcp-listen-port",
                str(free_port()),
                "apps/nco.py",
            ],
            env=os.environ | {"L45_STATE": str(tmp_path / "nothing")},
        )

        def said() -> int:
            return ryu.log.read_text(encoding="utf-8").count("service ended with status 1")

        wait_until(lambda: said() >= 2, "the service is tried twice", process=ryu)
        assert "nco init" in ryu.log.read_text(encoding="utf-8")
        assert ryu.running
    finally:
        processes.stop()


def test_a_port_in_use_ends_ryu(nco: Nco) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        ryu = nco.start_ryu(port=taken.getsockname()[1])
        ryu.popen.wait(20)
    assert "Address already in use" in ryu.log.read_text(encoding="utf-8")


def test_an_absolute_path_from_any_folder_works(nco: Nco, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    ryu = nco.start_ryu(app=str(ROOT / "apps" / "nco.py"))
    wait_until(lambda: nco.linked(ryu), "the service answers", process=ryu)


def mn_pingall() -> str:
    result = subprocess.run(
        [SYSTEM_MN, "--custom", "mininet_topos/two_site.py", "--topo", "two_site",
         "--controller", "remote", "--test", "pingall"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return result.stdout + result.stderr


@pytest.fixture
def switches() -> Iterator[None]:
    with openvswitch.alone(seconds=120), openvswitch.ensure_running():
        yield


@pytest.mark.usefixtures("switches")
def test_the_plain_mn_command_pings_everywhere(nco: Nco) -> None:
    ryu = nco.start_ryu(port=6653)
    wait_until(lambda: nco.linked(ryu), "the service answers", process=ryu)
    output = mn_pingall()
    assert ALL_PINGS in output, f"{output}\n{ryu.tail(40)}"


@pytest.mark.usefixtures("switches")
def test_an_operators_own_forwarding_begins_in_table_1_and_hosts_are_learnt(nco: Nco) -> None:
    ryu = nco.start_ryu("tests/system/flood_app.py", port=6653, L45_FORWARDING="off")
    wait_until(lambda: nco.linked(ryu), "the service answers", process=ryu)
    output = mn_pingall()
    assert ALL_PINGS in output, f"{output}\n{ryu.tail(40)}"
    log = ryu.log.read_text(encoding="utf-8")
    assert "apps.forwarding" not in log
    assert "address=10.10.0.6 dpid=1 port=4" in log
