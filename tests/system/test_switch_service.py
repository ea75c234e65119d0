"""ryu-manager as the parent of the real NCO service, and the plain `mn` command."""

from __future__ import annotations

import fcntl
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
from mininet_topos.ports import free_port
from mininet_topos.processes import Process, Processes, wait_until
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SCRIPTS = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent
SYSTEM_MN = "/usr/bin/mn"
ALL_PINGS = "Results: 0% dropped (30/30 received)"


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
        listen = 'listen = "127.0.0.1:0"'
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
    assert ryu.popen.wait(PATIENCE) == 0
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
    assert again.popen.wait(PATIENCE) == 0
    wait_until(lambda: nco.service() is None, "the service that was taken over is gone")


def refusal(ryu: Process) -> str:
    """Return the last line of a ryu-manager that ends by itself, with status 1."""
    assert ryu.popen.wait(PATIENCE) == 1
    log = ryu.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    return log.splitlines()[-1]


@pytest.mark.parametrize("made", [True, False], ids=["empty", "missing"])
def test_a_state_folder_never_initialised_ends_ryu(nco: Nco, tmp_path: Path, made: bool) -> None:
    state = tmp_path / "nothing"
    if made:
        state.mkdir()
    ryu = nco.start_ryu(L45_STATE=str(state))
    assert f"run `nco init --state {state} --address ADDRESS` first" in refusal(ryu)
    assert state.exists() == made
    assert not (state / "run").exists()


def test_settings_that_the_service_refuses_end_ryu(nco: Nco) -> None:
    (nco.state / "nco.toml").write_text("control = 5\n", encoding="utf-8")
    ryu = nco.start_ryu()
    assert "the service cannot run" in refusal(ryu)
    assert "nco.toml: control" in ryu.log.read_text(encoding="utf-8")


def test_a_service_of_before_that_does_not_answer_is_waited_for(nco: Nco) -> None:
    with (nco.state / "run" / "nco.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ryu = nco.start_ryu()
        wait_until(lambda: "has not left yet" in ryu.tail(100), "it is said", process=ryu)
        assert nco.service() is None
    wait_until(lambda: nco.linked(ryu), "a new service answers", process=ryu)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_port_in_use_ends_ryu(nco: Nco, host: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"TCP port {port} is in use" in refusal(nco.start_ryu(port=port))


def test_a_second_ryu_on_the_same_port_ends(nco: Nco, tmp_path: Path) -> None:
    port = free_port()
    first = nco.start_ryu(port=port)
    wait_until(lambda: nco.linked(first), "the service answers", process=first)
    (tmp_path / "other").mkdir()
    other = Nco(tmp_path / "other")
    try:
        assert f"TCP port {port} is in use" in refusal(other.start_ryu(port=port))
    finally:
        other.processes.stop()
    assert first.running


def test_a_second_ryu_on_the_same_state_folder_ends(nco: Nco, tmp_path: Path) -> None:
    first = nco.start_ryu()
    wait_until(lambda: nco.linked(first), "the service answers", process=first)
    logs = tmp_path / "second"
    logs.mkdir()
    second = Processes(logs).start(
        "ryu",
        [str(SCRIPTS / "ryu-manager"), "--ofp-tcp-listen-port", str(free_port()), "apps/nco.py"],
        env=os.environ | {"L45_STATE": str(nco.state)},
    )
    try:
        assert f"another ryu-manager (process {first.popen.pid}) serves {nco.state}" in refusal(
            second
        )
    finally:
        second.stop()
    assert nco.linked(first)


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
    with openvswitch.alone(), openvswitch.ensure_running():
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
