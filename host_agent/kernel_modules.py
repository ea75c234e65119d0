"""Kernel modules: what one says of itself, into the kernel, out of it, and why not.

The system calls are those of glibc; they take bytes, so the kernel gets what was verified. What a
module says of itself is read by `modinfo`, and an installed one is loaded by `modprobe`, which
knows compression, signatures and dependencies.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from host_agent.privileges import CAP_SYS_MODULE, has_capabilities

PROC_MODULES = Path("/proc/modules")
MODULES_DISABLED = Path("/proc/sys/kernel/modules_disabled")
SIG_ENFORCE = Path("/sys/module/module/parameters/sig_enforce")
LOCKDOWN = Path("/sys/kernel/security/lockdown")

UNSIGNED = (
    "modules that the NCO compiles are not signed for it: use modules that run on the bpf tap, "
    "or switch Secure Boot off in the firmware (`mokutil --disable-validation`)"
)
SECONDS = 10.0


class ModuleError(RuntimeError):
    """The kernel or a tool refused a kernel module; the text says why and what to do."""


@dataclass(frozen=True)
class ModuleInfo:
    """What a module says of itself."""

    name: str
    """In the kernel."""
    vermagic: str
    depends: tuple[str, ...]

    @property
    def kernel(self) -> str:
        """The release of the kernel that it was compiled for."""
        return self.vermagic.partition(" ")[0]


def refusal() -> str | None:
    """Return why no module of ours can be loaded into this kernel, as far as it can be seen."""
    if not PROC_MODULES.exists():
        return "this kernel takes no modules (CONFIG_MODULES)"
    if _says(MODULES_DISABLED) == "1":
        return (
            "this kernel takes no more modules until it is booted again (the sysctl "
            "kernel.modules_disabled is 1: see /etc/sysctl.d)"
        )
    if not has_capabilities(CAP_SYS_MODULE):
        return "CAP_SYS_MODULE is missing: run the agent as root of the machine"
    if _says(SIG_ENFORCE) == "Y" or _is_locked_down():
        return f"this kernel takes signed modules only (Secure Boot or lockdown), and {UNSIGNED}"
    return None


def _is_locked_down() -> bool:
    mode = _says(LOCKDOWN)
    return "[integrity]" in mode or "[confidentiality]" in mode


def _says(path: Path) -> str:
    """Return what a file of the kernel's says; nothing where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def describe(image: bytes) -> ModuleInfo:
    """Return what the module in `image` says of itself; raises ModuleError."""
    with tempfile.NamedTemporaryFile(prefix="l45-", suffix=".ko") as file:
        file.write(image)
        file.flush()
        said = _run("modinfo", "--null", file.name)
    pairs = (line.partition("=") for line in said.split("\0"))
    fields = {name: value for name, _, value in pairs}
    if not fields.get("name") or not fields.get("vermagic"):
        raise ModuleError("it is no kernel module: it has no name or no vermagic")
    depends = tuple(name for name in fields.get("depends", "").split(",") if name)
    return ModuleInfo(fields["name"], fields["vermagic"], depends)


def fitting(image: bytes) -> ModuleInfo:
    """Return what the module in `image` says of itself, if it is for this kernel.

    Raises ModuleError.
    """
    info = describe(image)
    if info.kernel != os.uname().release:
        raise ModuleError(
            f"{info.name} is compiled for kernel {info.kernel}, this is {os.uname().release}"
        )
    return info


def load(image: bytes) -> None:
    """Give a module to the kernel, which checks and starts it; raises ModuleError."""
    info = fitting(image)
    try:
        _system_call("init_module", image, ctypes.c_ulong(len(image)), b"")
    except OSError as error:
        raise ModuleError(f"{info.name}: {_explained(error)}") from error


def load_installed(name: str) -> None:
    """Load a module that is installed for this kernel; raises ModuleError with modprobe's words."""
    _run("modprobe", name)


def is_installed(name: str) -> bool:
    """Whether a module is installed for this kernel."""
    try:
        _run("modprobe", "--dry-run", name)
    except ModuleError:
        return False
    return True


def unload(name: str) -> bool:
    """Take a module out of the kernel, or say False where it is in use; raises ModuleError."""
    try:
        _system_call("delete_module", name.encode(), ctypes.c_uint(os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return True
        if error.errno in (errno.EWOULDBLOCK, errno.EBUSY):
            return False
        raise ModuleError(f"{name} is not unloaded: {_explained(error)}") from error
    return True


def _system_call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _explained(error: OSError) -> str:
    """Return the kernel's word for an error of ours, and what it means for modules."""
    meaning = {
        errno.EPERM: refusal() or f"the kernel is locked down (Secure Boot): {UNSIGNED}",
        errno.EKEYREJECTED: f"the kernel takes signed modules only, and {UNSIGNED}",
        errno.ENOKEY: f"its signer is not one that this kernel trusts; {UNSIGNED}",
        errno.ENOEXEC: "it does not fit this kernel or the l45.ko that is loaded",
        errno.EINVAL: "it does not fit the l45.ko that is loaded: `dca tap unload`, then load",
        errno.ENOENT: "it needs what the l45.ko that is loaded does not have: "
        "`dca tap unload`, then load",
    }.get(error.errno or 0)
    return (
        f"{error.strerror}: {meaning} (`dmesg` has the kernel's words)" if meaning else str(error)
    )


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ModuleError(f"there is no {command[0]}: install the package kmod") from error
    except subprocess.TimeoutExpired as error:
        raise ModuleError(f"{command[0]} did not end within {SECONDS:g} s") from error
    if done.returncode:
        raise ModuleError(done.stderr.strip() or f"{command[0]} failed")
    return done.stdout
