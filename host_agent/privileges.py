"""What this process may do to the kernel, and the folder that all agents of a kernel share."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUN = Path("/run/l45")
"""What drivers keep beside the kernel: gone with the boot, as what is in the kernel."""

CAP_NET_ADMIN = 12
CAP_SYS_MODULE = 16
CAP_SYS_ADMIN = 21


def needs_root() -> str | None:
    """Return what this process may not do that every tap needs, or None."""
    if has_capabilities(CAP_NET_ADMIN, CAP_SYS_ADMIN):
        return None
    return "needs root: CAP_SYS_ADMIN and CAP_NET_ADMIN are missing"


def has_capabilities(*needed: int) -> bool:
    """Whether this process has them in effect."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    return all(effective >> capability & 1 for capability in needed)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of all drivers of this kernel; the kernel frees it if we die."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
