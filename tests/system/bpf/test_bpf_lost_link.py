"""Links that fall silent, and an agent's full disk: the service, `dca` and the tap, all real."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller import ca
from controller.config import NcoConfig, StateFolder
from host_agent.bpf_tables import Tables
from mininet_topos.namespaces import inside
from tests.system.bpf.kit import CLIENT, SERVER, run, unique, veth_pair
from tests.system.disks import full, small_disk
from tests.unit.nco_kit import Service, credentials, eventually, intent, running
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DCA = str(Path(sys.executable).parent / "dca")
MOVED = "10.99.0.77"


@dataclass
class Site:
    """A host `h1` on a wire to the NCO, beside which a host `dns` is."""

    folder: Path
    tap_run: Path
    near: str
    """The namespace of h1."""
    far: str
    """That of the NCO and of dns."""
    service: Service
    agents: dict[str, subprocess.Popen[bytes]]

    def start(self, host: str) -> None:
        command = [
            *(DCA, "run", "--nco", f"{SERVER}:{self.service.port}", "--tap", "bpf"),
            *("--credentials", credentials(self.service.state, host).folder),
            *("--state", self.state(host), "--run-dir", self.tap_run),
        ]
        with inside(self.near if host == "h1" else self.far), self.log(host).open("ab") as log:
            self.agents[host] = subprocess.Popen(command, stderr=log)

    def kill(self, host: str) -> None:
        agent = self.agents.pop(host)
        agent.send_signal(signal.SIGKILL)
        agent.wait(PATIENCE)

    def state(self, host: str) -> Path:
        return self.folder / f"state-{host}"

    def log(self, host: str) -> Path:
        return self.folder / f"dca-{host}.log"

    def says(self, host: str, words: str) -> None:
        eventually(lambda: words in self.log(host).read_text(), f"{host} says {words!r}")

    def cut(self) -> None:
        """Have packets lost without a word: the link is down at the other end."""
        run("ip", "-n", self.far, "link", "set", "eth0", "down")

    def mend(self) -> None:
        run("ip", "-n", self.far, "link", "set", "eth0", "up")

    def connected(self) -> set[str]:
        return {host["name"] for host in self.service.get("/hosts") if host["connected"]}

    def apply(self, name: str, process: str, priority: int) -> None:
        wanted = intent(
            name,
            module="dns_app_tag",
            client=[{"host": "h1", "process": process}],
            priority=priority,
        )
        with self.service.client() as client:
            assert client.put(f"/intents/{name}", json=wanted).status_code == 201

    def active(self, name: str) -> bool:
        return bool(self.service.get(f"/intents/{name}")["phase"] == "active")

    def in_kernel(self) -> list[str]:
        with Tables.opened(self.tap_run) as tables:
            return sorted(member.id for member in tables.everything())

    def wanted(self) -> list[str]:
        return sorted(
            one["id"]
            for view in self.service.get("/intents")
            for host in view["hosts"]
            for one in host["customizations"]
        )


@contextmanager
def site(folder: Path, tap_run: Path, heartbeat: float) -> Iterator[Site]:
    state = StateFolder(folder / "nco")
    ca.initialise(state, NcoConfig(control=f"{SERVER}:4545", listen=f"{SERVER}:0"))
    with state.config.open("a") as file:
        file.write(f"linger = 0.2\nheartbeat = {heartbeat}\n")
    with veth_pair(unique("lost"), offload=True) as (near, far), ExitStack() as stack:
        with inside(far):
            service = stack.enter_context(running(state))
        made = Site(folder, tap_run, near, far, service, {})
        try:
            for host in ("h1", "dns"):
                made.start(host)
            eventually(lambda: made.connected() == {"h1", "dns"}, "both agents are connected")
            yield made
        finally:
            for host in list(made.agents):
                made.kill(host)


def test_a_silent_link_is_noticed_at_both_ends_and_both_come_back(
    tmp_path: Path, tap_run: Path
) -> None:
    with small_disk(tmp_path / "state-h1", 256), site(tmp_path, tap_run, 1.0) as made:
        applied_on_a_full_disk(made)
        before = made.in_kernel()
        assert before == made.wanted()

        made.cut()
        eventually(lambda: made.connected() == {"dns"}, "the NCO has noticed")
        assert "cut off: silent for" in made.service.log.read_text()
        made.apply("late", "late", 50)
        made.says("h1", "no session")
        assert set(before) <= set(made.in_kernel()), "nothing is torn down"

        made.mend()
        eventually(lambda: made.connected() == {"h1", "dns"}, "both are there")
        eventually(lambda: made.active("late") and made.active("tag"), "all is active")
        assert made.in_kernel() == made.wanted()


def applied_on_a_full_disk(made: Site) -> None:
    """Have the first intent applied while the agent of h1 cannot save it."""
    with full(made.state("h1")):
        made.apply("tag", "dig", 100)
        eventually(lambda: made.active("tag"), "it is active all the same")
        made.says("h1", "state not saved, a reboot will not restore it")
    made.says("h1", "state saved after all")


def test_a_host_that_comes_from_elsewhere_displaces_its_silent_connection(
    tmp_path: Path, tap_run: Path
) -> None:
    """The host has lost its address and its agent: nothing ends the old connection."""
    with site(tmp_path, tap_run, 60.0) as made:
        made.apply("tag", "dig", 100)
        eventually(lambda: made.active("tag"), "it is active")
        for end in (made.near, made.far):  # else what cannot be sent any more keeps it for minutes
            with inside(end):
                Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1", encoding="ascii")
        run("ip", "-n", made.near, "address", "del", f"{CLIENT}/24", "dev", "eth0")
        made.kill("h1")
        run("ip", "-n", made.near, "address", "add", f"{MOVED}/24", "dev", "eth0")
        assert made.connected() == {"h1", "dns"}, "the NCO cannot know"
        made.start("h1")
        eventually(lambda: "another agent connected as 'h1'" in made.service.log.read_text(), "new")

        def moved() -> bool:
            views = {host["name"]: host for host in made.service.get("/hosts")}
            return views["h1"]["connected"] and MOVED in str(views["h1"])

        eventually(moved, "it is there, from elsewhere")
        eventually(lambda: made.in_kernel() == made.wanted(), "as intended")
