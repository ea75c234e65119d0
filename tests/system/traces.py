"""What a test or the demonstration could leave behind on a machine, as a comparable snapshot."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

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


def _output(*command: str) -> set[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return {line.strip() for line in done.stdout.splitlines()}


def _processes() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if any(word in line for word in WATCHED):
                    found.add(f"process {entry.name}: {line}")
    return found


def snapshot() -> set[str]:
    """Return one line for each thing that somebody would have to clean up."""
    links = {line.split(":")[1] for line in _output("ip", "-o", "link") if ":" in line}
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    # Attached or not, a program of ours is there until nothing refers to it.
    programs = {line for line in _output("bpftool", "prog", "show") if "name l45" in line}
    modules = Path("/proc/modules")
    loaded = modules.read_text(encoding="ascii").splitlines() if modules.exists() else []
    return (
        {f"link {link}" for link in links}
        | {f"namespace {line}" for line in _output("ip", "netns", "list")}
        | {f"bridge {line}" for line in _output("ovs-vsctl", "--timeout=3", "list-br")}
        # `ip netns add` mounts its folder once and for all.
        | {f"mount {line}" for line in mounts if " /run/netns " not in line}
        | {f"file {path}" for path in Path("/run").glob("l45*")}
        | {f"file {path}" for path in Path("/tmp").glob("l45-testbed-*")}
        | {f"program {line}" for line in programs}
        | {f"module {line.split()[0]}" for line in loaded if line.startswith("l45")}
        | _processes()
    )
