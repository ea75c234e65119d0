"""Kernels that a guest can run, and what is built for each: modules, and programs of checks."""

from __future__ import annotations

import fcntl
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.bpf import kit

ROOT = Path(__file__).parents[2]
SERIES = ("6.1", "6.12")
DEBUG = "debug"
DEBUG_FOLDER = ROOT / "build" / "debug-kernel"
KMOD = ROOT / "kernel_tap" / "kmod"
MODULES = (ROOT / "kernel_tap" / "modules", ROOT / "tests" / "data" / "modules")
PROGRAMS = ROOT / "build" / "vm" / "programs"
BPF_OBJECTS = ROOT / "build" / "vm" / "bpf"


@dataclass(frozen=True)
class Kernel:
    """A kernel, its modules, and the folder against which modules are built."""

    release: str
    image: Path
    modules: Path
    source: Path

    def missing(self) -> list[Path]:
        """Return what of it is not there."""
        needed = self.image, self.modules / "modules.dep", self.source
        return [path for path in needed if not path.exists()]


def named(name: str) -> Kernel:
    """Return the kernel of a series like 6.1, or `debug`; FileNotFoundError if there is none."""
    kernel = _debug() if name == DEBUG else _newest(name)
    if missing := ", ".join(map(str, kernel.missing())):
        raise FileNotFoundError(f"{missing}: missing; install again, or build, kernel {name}")
    return kernel


def _newest(series: str) -> Kernel:
    found = [path.name.partition("-")[2] for path in Path("/boot").glob(f"vmlinuz-{series}.*")]
    generic = [name for name in found if re.fullmatch(r"[\d.+~a-z]+(-\d+)?-amd64", name)]
    if not generic:
        raise FileNotFoundError(f"no /boot/vmlinuz-{series}.*-amd64; `make test-vm` installs it")
    release = max(generic, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    modules = Path("/lib/modules") / release
    return Kernel(release, Path(f"/boot/vmlinuz-{release}"), modules, modules / "build")


def _debug() -> Kernel:
    source = DEBUG_FOLDER / "linux"
    release = source / "include/config/kernel.release"
    if not release.exists():
        raise FileNotFoundError("no build/debug-kernel; `make debug-kernel` builds it")
    name = release.read_text(encoding="ascii").strip()
    modules = DEBUG_FOLDER / "root/lib/modules" / name
    return Kernel(name, source / "arch/x86/boot/bzImage", modules, source)


@dataclass(frozen=True)
class Build:
    """What came out of building the kernel modules."""

    folder: Path
    code: int
    log: str


def modules_in(folder: Path) -> list[Path]:
    """Return the kernel modules of the last build; there may be older ones beside them."""
    order = folder / "kmod" / "modules.order"
    names = order.read_text(encoding="ascii").split() if order.exists() else []
    return [order.with_name(Path(name).with_suffix(".ko").name) for name in names]


def build_modules(kernel: Kernel, folder: Path) -> Build:
    """Build the tap and all modules, those of tests too; only what has changed if done before."""
    for path in (folder / "kmod").glob("*.[ch]"):  # the build takes whatever is there
        if not (KMOD / path.name).exists() and not path.name.endswith(".mod.c"):
            path.unlink()
    names = [path.parent.name for parent in MODULES for path in parent.glob("*/manifest.toml")]
    return _make(
        KMOD,
        folder,
        f"KERNEL={kernel.release}",
        f"KDIR={kernel.source}",
        f"MODULES={' '.join(map(str, MODULES))}",
        f"NAMES={' '.join(sorted(names))}",
    )


def build_programs() -> Build:
    """Build what checks run: C programs, at $PROGRAMS, and eBPF objects, at $L45_BPF_OBJECTS."""
    with _alone(BPF_OBJECTS):
        kit.build_all(BPF_OBJECTS)
    return _make(ROOT / "tests/vm/programs", PROGRAMS)


def _make(source: Path, folder: Path, *variables: str) -> Build:
    command = ["make", "--no-print-directory", "-C", str(source), f"OUT={folder}", *variables]
    with _alone(folder):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    return Build(folder, done.returncode, done.stdout)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else builds in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
