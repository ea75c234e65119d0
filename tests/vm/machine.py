"""A guest: which kernels there are, how QEMU runs one, and what it left."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.vm import initramfs

ROOT = Path(__file__).parents[2]
KVM = Path("/dev/kvm")
KVM_SECONDS = 15
"""A kernel without a root gives up sooner where KVM works; there are machines where it hangs."""
GUEST_SECONDS = 600
CHECK_SECONDS = 300
TAIL_LINES = 40

CONSOLE = "console=ttyS0 panic=-1"
# What is slow because the machine is busy is not stuck.
PATIENCE = "rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60"
BEGIN, CHECK, END = "l45-vm: checks begin", "l45-vm: check ", "l45-vm: checks end"
"""What guest.sh writes to the kernel's log."""
BAD = re.compile(
    r"BUG\b|WARNING\b|Oops|KASAN|UBSAN|Kernel panic|general protection|Call Trace|"
    r"possible (circular|recursive) locking|inconsistent lock|blocked for more than|"
    r"detected stall|refcount_t|memory leak"
)


@dataclass(frozen=True)
class Kernel:
    """A kernel of this machine's, as Debian installs it."""

    release: str

    @property
    def image(self) -> Path:
        return Path(f"/boot/vmlinuz-{self.release}")

    @property
    def modules(self) -> Path:
        return Path(f"/lib/modules/{self.release}")

    def missing(self) -> list[Path]:
        """Return what of its packages is not there."""
        needed = self.image, self.modules / "modules.dep", self.modules / "build"
        return [path for path in needed if not path.exists()]


def newest(series: str) -> Kernel:
    """Return the newest kernel of a series like 6.1; a FileNotFoundError where there is none."""
    found = [path.name.partition("-")[2] for path in Path("/boot").glob(f"vmlinuz-{series}.*")]
    generic = [name for name in found if re.fullmatch(r"[\d.+~a-z]+(-\d+)?-amd64", name)]
    if not generic:
        raise FileNotFoundError(f"no /boot/vmlinuz-{series}.*-amd64; `make test-vm` installs it")
    return Kernel(max(generic, key=lambda name: [int(n) for n in re.findall(r"\d+", name)]))


@dataclass(frozen=True)
class Ended:
    """A guest that has run."""

    share: Path
    in_time: bool

    @property
    def console(self) -> str:
        return (self.share / "console").read_text(errors="replace")

    @property
    def is_complete(self) -> bool:
        """Whether every check was run, and the guest then ended by itself."""
        return self.in_time and END in self.console

    @property
    def tail(self) -> str:
        return "\n".join(self.console.splitlines()[-TAIL_LINES:])

    def code(self, check: str) -> int | None:
        """Return how a check ended; None where it has not."""
        path = self.share / f"{check}.code"
        return int(path.read_text()) if path.exists() else None

    def output(self, check: str) -> str:
        path = self.share / f"{check}.out"
        return path.read_text(errors="replace") if path.exists() else "it has not begun"

    def log_of(self, check: str) -> str:
        """Return what the kernel said during a check; its last lines if that has not begun."""
        _, begun, rest = self.console.partition(f"{CHECK}{check}\n")
        return rest.partition("l45-vm: ")[0] if begun else self.tail

    def complaints(self) -> list[str]:
        """Return what the kernel said that is bad, from the first check on."""
        _, _, during = self.console.partition(BEGIN)
        return [line for line in during.splitlines() if BAD.search(line)]


def run(kernel: Kernel, accel: str, share: Path) -> Ended:
    """Boot, let all checks run, and wait for the end or for the time limit."""
    archive = share / "initramfs"
    archive.write_bytes(initramfs.build(kernel.modules))
    (share / "start").write_text(
        f"cd {shlex.quote(str(ROOT))} && exec sh tests/vm/guest.sh {CHECK_SECONDS}\n"
    )
    command = [
        *_qemu(accel, kernel, share / "console", PATIENCE),
        *("-initrd", archive),
        *_folder("machine", Path("/"), ",readonly=on"),
        *_folder("results", share),
    ]
    return Ended(share, in_time=_until_end(command, GUEST_SECONDS))


def accelerator(kernel: Kernel) -> str:
    """Return `kvm` where a kernel comes as far as to miss its root with it, else `tcg`."""
    usable = os.access(KVM, os.R_OK | os.W_OK)
    command = _qemu("kvm", kernel, Path(os.devnull))
    return "kvm" if usable and _until_end(command, KVM_SECONDS) else "tcg"


def _qemu(accel: str, kernel: Kernel, console: Path, options: str = "") -> list[str | Path]:
    return [
        # It ends with us, however we end.
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-reboot"),
        *("-machine", f"q35,accel={accel}", "-cpu", "host" if accel == "kvm" else "max"),
        *("-smp", "2", "-m", "2G", "-display", "none", "-serial", f"file:{console}"),
        *("-kernel", kernel.image, "-append", f"{CONSOLE} {options}"),
    ]


def _folder(tag: str, path: Path, options: str = "") -> list[str]:
    settings = f"local,id={tag},path={path},security_model=none,multidevs=remap{options}"
    return ["-fsdev", settings, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _until_end(command: list[str | Path], seconds: int) -> bool:
    """Run a guest; whether it ended by itself, and well, in time."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as qemu:
        try:
            return qemu.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            qemu.kill()
