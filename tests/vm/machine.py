"""A guest: how QEMU runs a kernel and checks in it, and what they left."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import initramfs
from tests.vm.kernels import ROOT, Kernel

KVM = Path("/dev/kvm")
KVM_SECONDS = 15
"""A kernel without a root gives up sooner where KVM works; there are machines where it hangs."""
GUEST_SECONDS = 1500
BOOT_SECONDS = 180
CHECK_SECONDS = 400
TAIL_LINES = 40

TMP, MACHINE_TMP = Path("/tmp"), Path("/run/machine-tmp")
"""Of the guest, and where it finds the machine's (init.sh)."""
# A busy machine delivers a guest's timer so late that its kernel takes it for broken, and gives up.
CONSOLE = "console=ttyS0 panic=-1 no_timer_check"
# What is slow because the machine is busy is not stuck.
PATIENCE = "rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60"
# Caches that are checked for consistency are not merged, and their objects are counted exactly:
# leaks.sh reads these counts.
COUNTED = "slub_debug=F,TCP,TCPv6,UDP,UDPv6,MPTCP,MPTCPv6,RAW,RAWv6,net_namespace"
BEGIN, CHECK, END = "l45-vm: checks begin", "l45-vm: check ", "l45-vm: checks end"
"""What guest.sh writes to the kernel's log."""
BAD = re.compile(
    r"BUG\b|WARNING\b|Oops|KASAN|UBSAN|Kernel panic|general protection|Call Trace|"
    r"possible (circular|recursive) locking|inconsistent lock|blocked for more than|"
    r"detected stall|refcount_t|memory leak|waiting for \S+ to become free|ODEBUG"
)


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

    def reasons(self, check: str) -> list[str]:
        """Return what is wrong with a check: nothing if it passed."""
        code, leaks = self._of(check, "code").strip(), self._of(check, "leaks")
        ended = [] if code == "0" else [f"ended with {code}" if code else "did not end"]
        return [*ended, *leaks.splitlines(), *complaints(self._log(check))]

    def report(self, check: str) -> str:
        """Return what is wrong with a check, what it said, and what the kernel said meanwhile."""
        output, log = self._of(check, "out"), self._log(check) or self.tail
        return "\n".join([*self.reasons(check), "Output:", output, "Kernel:", log])

    def _of(self, check: str, kind: str) -> str:
        path = self.share / f"{check}.{kind}"
        return path.read_text(errors="replace") if path.exists() else ""

    def _log(self, check: str) -> str:
        """Return what the kernel said from the beginning of a check to that of the next."""
        return self.console.partition(f"{CHECK}{check}\n")[2].partition("l45-vm: ")[0]


def complaints(log: str) -> list[str]:
    """Return the lines of a kernel's log that are bad."""
    return [line for line in log.splitlines() if BAD.search(line)]


@dataclass(frozen=True)
class Guest:
    """What shall run: a kernel, and checks in their order, each for some seconds."""

    kernel: Kernel
    accel: str
    checks: Sequence[Path]
    modules: Sequence[Path]
    environment: Mapping[str, str]
    check_seconds: int = CHECK_SECONDS
    options: Sequence[str] = ()
    """Of QEMU, besides; the last of a kind counts."""


@contextmanager
def running(guest: Guest, share: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Boot a guest, which puts all it has to say into the folder `share`; it ends with this."""
    for path in (*guest.modules, *guest.checks):
        shutil.copy(path, share)
    archive = share / "initramfs"
    archive.write_bytes(initramfs.build(guest.kernel.modules))
    (share / "start").write_text(_start(guest))
    command = [
        *_qemu(guest.accel, guest.kernel, share / "console", f"{PATIENCE} {COUNTED}"),
        *guest.options,
        *("-initrd", archive),
        *_folder("machine", Path("/"), ",readonly=on"),
        *_folder("results", share),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as qemu:
        try:
            yield qemu
        finally:
            qemu.kill()


def run(guest: Guest, share: Path, seconds: int = GUEST_SECONDS) -> Ended:
    """Boot, let all checks run, and wait for the end or for the time limit."""
    with running(guest, share) as qemu:
        return Ended(share, in_time=_ends_well(qemu, seconds))


def accelerator(kernel: Kernel) -> str:
    """Return `kvm` where a kernel comes as far as to miss its root with it, else `tcg`."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return "tcg"
    command = _qemu("kvm", kernel, Path(os.devnull))
    null = subprocess.DEVNULL  # registers and all, where KVM fails
    with subprocess.Popen(command, stdin=null, stderr=null) as qemu:
        try:
            return "kvm" if _ends_well(qemu, KVM_SECONDS) else "tcg"
        finally:
            qemu.kill()


def _start(guest: Guest) -> str:
    """Return the script with which the guest begins once it has its root."""
    exports = [f"export {name}={shlex.quote(to)}" for name, to in guest.environment.items()]
    names = " ".join(shlex.quote(path.stem) for path in guest.checks)
    return "\n".join(
        [
            *exports,
            f"export KERNEL_MODULES={shlex.quote(str(guest.kernel.modules))}",
            *_repository(ROOT),
            f"exec sh tests/vm/guest.sh {guest.check_seconds} {names}\n",
        ]
    )


def _repository(root: Path) -> list[str]:
    """Return what goes into the repository's folder; one below /tmp is not in the guest's own."""
    folder = shlex.quote(str(root))
    if not root.is_relative_to(TMP):
        return [f"cd {folder}"]
    there = shlex.quote(str(MACHINE_TMP / root.relative_to(TMP)))
    return [f"mkdir -p {folder}", f"mount --bind {there} {folder}", f"cd {folder}"]


def _qemu(accel: str, kernel: Kernel, console: Path, options: str = "") -> list[str | Path]:
    return [
        # It ends with us, however we end.
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-reboot"),
        *("-machine", f"q35,accel={accel}", "-cpu", "host" if accel == "kvm" else "max"),
        *("-smp", "2", "-m", "3G", "-display", "none", "-serial", f"file:{console}"),
        *("-kernel", kernel.image, "-append", f"{CONSOLE} {options}"),
    ]


def _folder(tag: str, path: Path, options: str = "") -> list[str]:
    settings = f"local,id={tag},path={path},security_model=none,multidevs=remap{options}"
    return ["-fsdev", settings, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _ends_well(qemu: subprocess.Popen[bytes], seconds: int) -> bool:
    try:
        return qemu.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
