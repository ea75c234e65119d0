"""What tests could leave behind on a machine, told apart from what others do there meanwhile.

Processes are known by a mark in their environment, which whatever starts them hands on. What has a
name of its own has its maker's process id in it (`-PID-`), and is another one's for as long as that
process lives. Switches and links have fixed names: they are looked at while nobody else has any.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from mininet_topos import openvswitch

MARK = f"L45_TESTS={os.getpid()}"

WATCHED = (
    "apps/nco.py",
    "controller.service",
    "bin/dca",
    "dnsmasq",
    "tshark",
    "dumpcap",
    "ovs-vswitchd",
    "ovsdb-server",
    "mininet:",
)
"""Parts of the command lines of what the testbed starts."""

NETWORK = re.compile(r"s\d+|s\d+-eth\d+|h\d+-eth\d+|l45-.*|ovs-.*")
"""Names of the testbed's links and switches."""

MAKER = re.compile(r"-(\d+)(?=[-/ ]|$)")

GONE_SECONDS = 60.0
"""The kernel frees BPF programs and namespaces some time after their last user has gone."""


class Traces:
    """What has come since this was made, and is this run's."""

    def __init__(self, own: Path) -> None:
        """Look; `own` is the folder for the temporary files of this run of tests."""
        name, _, value = MARK.partition("=")
        os.environ[name] = value
        self._own = own
        self._before = self._now()

    def left(self) -> set[str]:
        """Return a line for each thing that somebody would have to clean up.

        What goes by itself, if late, is waited for.
        """
        deadline = time.monotonic() + GONE_SECONDS
        while (left := self._now() - self._before) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def _now(self) -> set[str]:
        found = _files() | _namespaces() | _mounts() | _programs() | _modules()
        return {one for one in found if not self._is_anothers(one)} | _network() | _processes()

    def _is_anothers(self, trace: str) -> bool:
        if "/pytest-of-" in trace:
            return str(self._own) not in trace
        if re.search(r"/run/l45($|/| )", trace):
            return True  # of the machine's own agents: tests have folders of their own
        maker = MAKER.search(trace)
        return maker is not None and _lives(maker[1]) and not _is_ours(maker[1])


def _lives(pid: str) -> bool:
    return Path("/proc", pid).exists()


def _is_ours(pid: str) -> bool:
    """Whether a process is this one, or was started by it, directly or not."""
    try:
        environment = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended, or is no process
    return int(pid) == os.getpid() or MARK.encode() in environment


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout


def _files() -> set[str]:
    paths = [*Path("/run").glob("l45*"), *Path("/tmp").glob("l45-testbed-*")]
    paths += Path("/run").glob(f"*-{os.getpid()}-*")
    return {f"file {path}" for path in paths}


def _namespaces() -> set[str]:
    """Return those with names: Mininet's have none, and go with their processes."""
    names = [line.split()[0] for line in _output("ip", "netns", "list").splitlines()]
    return {f"namespace {name}" for name in names if MAKER.search(name)}


def _mounts() -> set[str]:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return {f"mount {line}" for line in mounts if "l45" in line}


def _programs() -> set[str]:
    """Return BPF programs with where their maps are pinned, if they are still.

    Attached or not, a program is there until nothing refers to it.
    """
    pinned = {one["id"]: one.get("pinned", []) for one in _bpftool("map")}
    return {
        f"program {one['name']} {one['id']} "
        + " ".join(
            sorted(path for number in one.get("map_ids", []) for path in pinned.get(number, ()))
        )
        for one in _bpftool("prog")
        if one.get("name", "").startswith("l45")
    }


def _bpftool(kind: str) -> list[dict[str, Any]]:
    shown = json.loads(_output("bpftool", "--json", "--bpffs", kind, "show") or "[]")
    return shown if isinstance(shown, list) else []  # else it says what is wrong


def _modules() -> set[str]:
    modules = Path("/proc/modules")
    loaded = modules.read_text(encoding="ascii").splitlines() if modules.exists() else []
    return {f"module {line.split()[0]}" for line in loaded if line.startswith("l45")}


def _network() -> set[str]:
    """Return links and switches of the testbed, unless another one has his here now."""
    try:
        with openvswitch.alone(seconds=0):
            lines = _output("ip", "-o", "link").splitlines()
            links = [line.split(":")[1].split("@")[0].strip() for line in lines]
            runs = (openvswitch.RUN / "db.sock").exists()
            bridges = _output("ovs-vsctl", "--timeout=3", "list-br").split() if runs else []
    except openvswitch.OpenVSwitchError:
        return set()
    named = {f"link {link}" for link in links} | {f"bridge {bridge}" for bridge in bridges}
    return {one for one in named if NETWORK.fullmatch(one.split()[1])}


def _processes() -> set[str]:
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) != os.getpid() and _is_ours(folder.name):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue  # it has ended
            if any(word in line for word in WATCHED):
                found.add(f"process {folder.name}: {line}")
    return found
