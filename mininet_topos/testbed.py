"""The dissertation's two sites with the whole system running on them, every part real.

Open vSwitch, stock `ryu-manager apps/nco.py` in the NCO's namespace, an agent in every host's
namespace, dnsmasq on the DNS server. The demonstration and the system tests both use it. Leaving
the context takes away everything that was started or made.

The switches reach the controller over a management link of its own (a veth pair between the main
namespace, where Open vSwitch runs, and the NCO's host); the agents reach it in-band.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mininet.cli import CLI
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import RemoteController

from host_agent.tap import TapError
from mininet_topos import openvswitch, taps
from mininet_topos.processes import Process, Processes, TestbedError, run, wait_until
from mininet_topos.two_site import TwoSite

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))

NCO_ADDRESS = "10.10.0.5"
DNS_ADDRESS = "10.10.0.3"
WEB_ADDRESS = "10.10.0.4"
MANAGEMENT_SWITCH, MANAGEMENT_NCO = "169.254.45.1", "169.254.45.2"
MANAGEMENT_LINK = "l45-mgmt"
SLOW_LINK = {"s1": "l45-slow1", "s2": "l45-slow2"}
"""The ends of the link with delays that can stand between the sites."""
OPENFLOW_PORT = 6653
ZONE = "example.org"


class Testbed:
    """Two sites, one NCO, an agent a host. Use as a context manager; needs root.

    `folder` keeps logs and captures and is left to the caller; everything else goes away. With a
    `delay`, datagrams between the sites take up to so many seconds each, and overtake each other.
    `settings` are lines that are added to the NCO's `nco.toml`.
    """

    __test__ = False

    def __init__(self, folder: Path, delay: float = 0.0, settings: Sequence[str] = ()) -> None:
        self.folder = folder
        self._delay = delay
        self._settings = list(settings)
        self.logs = folder / "logs"
        self.processes = Processes(self.logs)
        self.agents: dict[str, Process] = {}
        self.ryu: Process | None = None
        self._cleanup = contextlib.ExitStack()
        self._net: Mininet

    # -- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Testbed:
        if os.geteuid() != 0:
            raise TestbedError("the testbed needs root: namespaces, Open vSwitch, taps")
        # A signal may come between an exception and the clean-up that it starts.
        atexit.register(self._leave)
        try:
            self._start()
        except TapError as error:
            self._leave()
            raise TestbedError(str(error)) from error
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        with _uninterrupted():
            self._cleanup.close()
        atexit.unregister(self._leave)

    def _start(self) -> None:
        self._cleanup.enter_context(openvswitch.alone())
        self._empty_folder()
        scratch = Path(tempfile.mkdtemp(prefix=f"l45-testbed-{os.getpid()}-"))
        self._cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        self.state = scratch / "nco"
        self.credentials = scratch / "credentials"
        self.modules = scratch / "modules"
        self._agent_state = scratch / "agents"
        self.run_folder = Path("/run") / scratch.name
        self._cleanup.callback(shutil.rmtree, self.run_folder, ignore_errors=True)

        self._cleanup.enter_context(openvswitch.ensure_running())
        _refuse_foreign_bridges()
        self._tap = self._cleanup.enter_context(
            taps.loaded(self.run_folder, self.logs / "l45.ko.log")
        )
        self._start_network()
        self._cleanup.callback(self.processes.stop)
        self._issue_credentials()
        self.start_nco()
        self._net.start()
        if self._delay:
            self._slow_down(self._delay)
        self._start_dnsmasq()
        for host in self.hosts:
            self.start_agent(host)
        self.wait_for_agents()

    def _empty_folder(self) -> None:
        """Remove what an earlier testbed wrote, and nothing else: the user named the folder."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for old in (*self.logs.glob("*.log"), *self.folder.glob("capture-*.pcapng")):
            old.unlink()

    def _start_network(self) -> None:
        setLogLevel("critical")
        self._net = Mininet(topo=TwoSite(), controller=None, autoSetMacs=False, build=False)
        self._cleanup.callback(self._stop_network)
        self._net.build()
        self._net.addController(
            "c0", controller=RemoteController, ip=MANAGEMENT_NCO, port=OPENFLOW_PORT
        )
        self._add_management_link()

    def _stop_network(self) -> None:
        self._net.stop()
        for controller in self._net.controllers:
            controller.terminate()  # Mininet leaves a remote controller's shell behind

    def _add_management_link(self) -> None:
        """Join the main namespace and the NCO by a veth pair."""
        nco = str(self._net["nco"].pid)
        far = "nco-mgmt"
        run("ip", "link", "add", MANAGEMENT_LINK, "type", "veth", "peer", "name", far, "netns", nco)
        self._cleanup.callback(
            subprocess.run, ["ip", "link", "del", MANAGEMENT_LINK], capture_output=True, check=False
        )
        run("ip", "address", "add", f"{MANAGEMENT_SWITCH}/30", "dev", MANAGEMENT_LINK)
        run("ip", "link", "set", MANAGEMENT_LINK, "up")
        self.run("nco", "ip", "address", "add", f"{MANAGEMENT_NCO}/30", "dev", far)
        self.run("nco", "ip", "link", "set", far, "up")

    def _slow_down(self, delay: float) -> None:
        """Replace the link between the sites by one that delays and reorders datagrams."""
        self._net.delLinkBetween(self._net["s1"], self._net["s2"])
        for switch, end in SLOW_LINK.items():
            port = f"{end}p"
            run("ip", "link", "add", end, "type", "veth", "peer", "name", port)
            self._cleanup.callback(
                subprocess.run, ["ip", "link", "del", end], capture_output=True, check=False
            )
            for interface in (end, port):
                run("ip", "link", "set", interface, "up")
            run("ovs-vsctl", "add-port", switch, port)
        command = [sys.executable, "-m", "mininet_topos.slow_link", *SLOW_LINK.values()]
        self.processes.start("slow_link", [*command, "--delay", str(delay)])

    def _issue_credentials(self) -> None:
        self.nco("init", "--address", NCO_ADDRESS)
        shutil.copytree(ROOT / "kernel_tap" / "modules", self.modules)
        with (self.state / "nco.toml").open("a", encoding="utf-8") as settings:
            settings.write(f'modules = "{self.modules}"\n')
            settings.writelines(f"{line}\n" for line in self._settings)
        for host in self.hosts:
            self.nco("host", "add", host, "--out", str(self.credentials / host))

    # -- parts --------------------------------------------------------------------------------

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts; each has an agent."""
        return [host.name for host in self._net.hosts]

    def address(self, host: str) -> str:
        """Return the host's IPv4 address."""
        return str(self._net[host].IP())

    def interface(self, host: str) -> str:
        """Return the name of the host's interface to the switch."""
        return f"{host}-eth0"

    def named(self) -> dict[str, str]:
        """Return the name of the host for each address."""
        return {self.address(host): host for host in self.hosts}

    def start_nco(self) -> Process:
        """Start stock ryu-manager with apps/nco.py in the NCO's namespace."""
        self.ryu = self.spawn(
            "nco",
            "ryu-manager",
            [
                str(SCRIPTS / "ryu-manager"),
                "--ofp-listen-host",
                MANAGEMENT_NCO,
                "--ofp-tcp-listen-port",
                str(OPENFLOW_PORT),
                str(ROOT / "apps" / "nco.py"),
            ],
            env={"L45_STATE": str(self.state), "PYTHONWARNINGS": "ignore"},
        )
        wait_until(self._rest_answers, "the NCO service answers", process=self.ryu)
        return self.ryu

    def _rest_answers(self) -> bool:
        return self.nco("host", "list", check=False).returncode == 0

    def _start_dnsmasq(self) -> None:
        """Serve ZONE: every name in it is the web server's address."""
        command = "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv"
        command += " --log-queries --log-facility=- --pid-file= --user=root --cache-size=0"
        command += f" --address=/{ZONE}/{WEB_ADDRESS}"
        self.dnsmasq = self.spawn("dns", "dnsmasq", command.split())
        wait_until(lambda: "started" in self.dnsmasq.tail(), "dnsmasq starts", process=self.dnsmasq)

    def start_agent(self, host: str) -> Process:
        """Start the host's agent in its namespace."""
        state = self._agent_state / host
        process = self.spawn(
            host,
            f"dca-{host}",
            [
                str(SCRIPTS / "dca"),
                "run",
                "--nco",
                NCO_ADDRESS,
                "--credentials",
                str(self.credentials / host),
                "--state",
                str(state),
                "--run-dir",
                str(self.run_folder),
                "--tap",
                self._tap,
            ],
        )
        self.agents[host] = process
        return process

    def wait_for_agents(self, hosts: Sequence[str] | None = None) -> None:
        """Wait until the NCO reports these hosts (all, by default) as connected."""
        wanted = set(self.hosts if hosts is None else hosts)
        try:
            wait_until(lambda: wanted <= self.connected(), "all agents are connected")
        except TestbedError as error:
            missing = sorted(wanted - self.connected())
            logs = "\n".join(f"{host}: {self.agents[host].tail(5)}" for host in missing)
            raise TestbedError(
                f"{error}; missing: {', '.join(missing)}; "
                f"switches that are connected: {self.rest('status')['switches']}\n{logs}"
            ) from error

    def connected(self) -> set[str]:
        """Names of the hosts whose agents are connected to the NCO."""
        return {host["name"] for host in self.rest("host", "list") if host["connected"]}

    # -- doing things -------------------------------------------------------------------------

    def spawn(
        self, host: str, name: str, command: Sequence[str], env: dict[str, str] | None = None
    ) -> Process:
        """Start a program in the host's namespace; it ends with the testbed."""
        return self.processes.start(
            name, command, self._net[host].popen, env={**os.environ, **(env or {})}
        )

    def run(
        self, host: str, *command: str, seconds: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host's namespace to its end."""
        return subprocess.run(
            ["mnexec", "-a", str(self._net[host].pid), *command],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def dig(self, host: str, name: str = f"www.{ZONE}", *options: str) -> str:
        """Ask the DNS server with dig on `host`; return the short answer, empty if none came."""
        options = ("+short", "+time=10", "+tries=1", *options)
        return self.run(host, "dig", f"@{DNS_ADDRESS}", name, *options).stdout.strip()

    def nslookup(self, host: str, name: str = f"www.{ZONE}") -> str:
        """Ask the DNS server with another program than dig; return what it prints."""
        return self.run(host, "nslookup", "-timeout=10", "-retry=0", name, DNS_ADDRESS).stdout

    def nco(
        self, *arguments: str, check: bool = True, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the operator's command; raise TestbedError with its words where it fails."""
        command = ["nco", *arguments]
        done = subprocess.run(
            command,
            env=self.operator_environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise TestbedError(f"nco {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def nco_lines(self, *arguments: str) -> Iterator[str]:
        """Run the operator's command and yield its lines as they come."""
        command = ["nco", *arguments]
        with subprocess.Popen(
            command,
            env=self.operator_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            assert running.stdout  # noqa: S101 - a pipe was asked for
            yield from running.stdout
        if running.returncode != 0:
            raise TestbedError(f"nco {' '.join(arguments)}: exit code {running.returncode}")

    def operator_environment(self) -> dict[str, str]:
        """Return the environment in which `nco` is found and talks to this testbed's NCO."""
        path = f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "L45_STATE": str(self.state), "PATH": path}

    def prompt(self) -> None:
        """Give Mininet's prompt until the user leaves it."""
        setLogLevel("output")  # what commands on hosts print
        _Prompt(self._net)

    def rest(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Return what the operator's command prints with --json."""
        return json.loads(self.nco(*arguments, "--json").stdout)

    def nco_log(self) -> str:
        """Return what ryu-manager and the service have logged."""
        assert self.ryu  # noqa: S101 - started with the testbed
        return self.ryu.tail(10_000)

    def service_pid(self) -> int:
        """Return the process id of the NCO service."""
        return int(self.rest("status")["pid"])

    def flows(self, switch: str) -> str:
        """Return the flow entries of a switch, as ovs-ofctl prints them."""
        return run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", switch)


class _Prompt(CLI):
    """Mininet's prompt, at which `nco` is the operator's command and not the host of that name."""

    def do_nco(self, line: str) -> None:
        """Run the operator's command; `nco --help` lists what it can do."""
        self.do_sh(f"nco {line}")


def _refuse_foreign_bridges() -> None:
    """Mininet would delete bridges of the same names, whoever made them."""
    taken = set(TwoSite().switches()) & set(run("ovs-vsctl", "list-br").split())
    if taken:
        names = ", ".join(sorted(taken))
        raise TestbedError(f"bridges with our names exist: {names}; is another Mininet running?")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let clean-up finish: a second Ctrl-C must not leave half of it behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_once() -> None:
    """Let the first SIGINT or SIGTERM unwind this program, and ignore those after it.

    Impatient users press Ctrl-C twice, and a terminal tells all of a group: a second exception
    in the midst of unwinding would leave half of the clean-up undone.
    """

    def interrupt(number: int, frame: object) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
