"""The taps of the testbed's kernel: put in before its hosts exist, taken out when they are gone.

All hosts share one kernel, in which their agents find what they use: a Mininet host sees no cgroup
hierarchy of its own, and an agent loads only an l45.ko that somebody has built.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from host_agent import kernel_modules, kmod_tap, taps
from host_agent.tap import TapError
from host_agent.taps import Choice, Kind
from mininet_topos.processes import TestbedError

SOURCES = Path(__file__).parent.parent / "kernel_tap" / "kmod"
MODULES = Path("/lib/modules")
BUILD_SECONDS = 300.0
UNLOAD_SECONDS = 60.0
"""For the kernel to take namespaces down: until then their customizations use the tap."""


@contextmanager
def loaded(run: Path, log: Path) -> Iterator[Choice]:
    """Have in the kernel what works here, and say what agents may use; `run` is their run folder.

    The kernel tap needs a kernel that loads modules, and its headers: for l45.ko, and for what the
    NCO builds. `log` is what building it said. A tap that was loaded before stays loaded.
    """
    choice: Choice = "bpf" if without_kmod(log) else "auto"
    with ExitStack() as stack:
        working, faults = taps.usable(taps.kinds(choice, run))
        if not working:
            raise TapError("; ".join(faults.values()))
        for kind in working:
            stack.enter_context(_one(kind, run))
        yield choice


def without_kmod(log: Path) -> str | None:
    """Build l45.ko for this kernel; return why there is none for it, or None."""
    release = os.uname().release
    if reason := kernel_modules.refusal():
        return reason
    if not (MODULES / release / "build").exists():
        return f"no headers of kernel {release}: `apt-get install linux-headers-{release}`"
    with log.open("w", encoding="utf-8") as said:
        done = subprocess.run(
            ["make", "--silent", "-C", str(SOURCES), f"KERNEL={release}", "NAMES="],
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=BUILD_SECONDS,
            check=False,
        )
    return f"l45.ko does not compile for kernel {release}: see {log}" if done.returncode else None


@contextmanager
def _one(kind: Kind, run: Path) -> Iterator[None]:
    if kind.installed():
        try:
            yield
        finally:
            if kind.name == "kmod":
                kmod_tap.sweep(run)  # what the testbed's agents have loaded
        return
    kind.install()
    try:
        yield
    finally:
        _uninstall(kind)


def _uninstall(kind: Kind) -> None:
    until = time.monotonic() + UNLOAD_SECONDS
    while True:
        try:
            return kind.uninstall()
        except TapError as error:
            if time.monotonic() > until:
                raise TestbedError(str(error)) from error
        time.sleep(0.2)
