"""The eBPF tap's program set: one per kernel, pinned in a BPF file system of its own.

Under `RUN/bpf`: `maps/`, `links/` (cgroup hooks), `programs/` (what interfaces get). The last
pin made is `programs/l45_ingress`: with it the installation is whole; without it, what is there is
left over from a crash and made anew. `RUN/lock` serialises drivers of different namespaces.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from host_agent import bpf_tables, libbpf
from host_agent.bpf_abi import PLACE_ANSWER
from host_agent.bpf_tables import Tables
from host_agent.privileges import RUN, locked, needs_root
from host_agent.tap import TapError

logger = logging.getLogger(__name__)

TAP_OBJECT = Path(__file__).parents[1] / "build" / "bpf" / "tap.bpf.o"

CGROUP_HOOKS = (
    "l45_sock_create",
    *("l45_post_bind4", "l45_connect4", "l45_sendmsg4", "l45_recvmsg4"),
    *("l45_post_bind6", "l45_connect6", "l45_sendmsg6", "l45_recvmsg6"),
)
FIND_HEIRS, SETTLE_HEIRS = "l45_find_heirs", "l45_settle_heirs"
"""Iterators over all open files, to be run one after the other."""
LIST_FLOWS = "l45_list_flows"
FIND_LIVING = "l45_find_living"
INTERFACE_HOOKS = ("l45_egress", "l45_ingress")
LAST = INTERFACE_HOOKS[-1]
ITERATORS = (FIND_HEIRS, SETTLE_HEIRS, LIST_FLOWS, FIND_LIVING)
PROGRAMS = {*CGROUP_HOOKS, *ITERATORS, *INTERFACE_HOOKS, "l45_answer"}


def unavailable() -> str | None:
    """Return why this process cannot use the eBPF tap on this kernel, or None."""
    if reason := needs_root():
        return reason
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if release is None or (int(release[1]), int(release[2])) < (6, 1):
        return f"the bpf tap needs Linux 6.1 or newer, this is {platform.release()}"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)"
    if "cgroup2" not in Path("/proc/filesystems").read_text():
        return "the kernel has no cgroup2"
    try:
        libbpf.library()
    except libbpf.LibbpfError as error:
        return str(error)
    return None


def installed(run: Path = RUN) -> bool:
    """Whether a whole program set is pinned under `run`."""
    return (run / "bpf" / "programs" / LAST).exists()


def install(run: Path = RUN, tap_object: Path | None = None) -> None:
    """Load and pin the program set and hook it into the cgroup root; again changes nothing.

    Raises TapError.
    """
    with locked(run):
        install_locked(run, tap_object)


def install_locked(run: Path, tap_object: Path | None = None) -> None:
    """Do what `install` does, for a caller that holds the lock."""
    if reason := unavailable():
        raise TapError(reason)
    source = tap_object or Path(os.environ.get("L45_TAP_OBJECT", TAP_OBJECT))
    if installed(run) and not _should_be_replaced(run, source):
        return
    try:
        data = source.read_bytes()
    except OSError as error:
        raise TapError(f"no tap object: {error}; `make setup` builds it") from error
    cgroup = cgroup_root()
    _mount(run / "bpf")
    _remove_pins(run)
    try:
        _load(run, data, cgroup)
    except (TapError, libbpf.LibbpfError, OSError) as error:
        _remove_pins(run)
        raise TapError(f"cannot install the bpf tap: {error}") from error
    logger.info("tap_installed run=%s cgroup=%s", run, cgroup)


def _should_be_replaced(run: Path, source: Path) -> bool:
    """Whether another build than `source` is loaded, and nobody would miss it."""
    try:
        wanted = hashlib.sha256(source.read_bytes()).digest()
    except OSError:
        return False  # what is loaded works
    if bpf_tables.digest(run) == wanted:
        return False
    try:
        cgroup_root()
        reason = "has customizations" if bpf_tables.has_sets(run) else None
    except TapError:
        reason = "cannot be replaced from here"
    if reason:
        logger.warning(
            "another build of the tap than %s is loaded, and %s: "
            "`dca tap unload`, then `dca tap load`, when that suits you",
            *(source, reason),
        )
    return reason is None


def cgroup_root() -> Path:
    """Return where the cgroup v2 hierarchy is mounted and can be reached.

    Raises TapError. It cannot be reached from the private mounts of Mininet's hosts and of
    `ip netns exec`; a set installed there would be that host's alone.
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2" and (Path(where) / "cgroup.procs").exists():
            return Path(where)
    raise TapError(
        "no cgroup2 file system can be reached from here; in a network namespace with a /sys of "
        "its own, load the tap from outside first (`dca tap load`)"
    )


def _mounted(path: Path) -> bool:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return any(line.split(" ")[1:3] == [str(path), "bpf"] for line in lines)


def _mount(path: Path) -> None:
    """Mount a BPF file system, unless there is one."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _mounted(path):
        return
    _command("mount", "-t", "bpf", "-o", "mode=0700", "l45", str(path))


def _command(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TapError(f"{' '.join(arguments)}: {done.stderr.strip()}")


def _load(run: Path, data: bytes, cgroup: Path) -> None:
    pins = run / "bpf"
    for folder in ("maps", "links", "programs"):
        (pins / folder).mkdir(mode=0o700)
    with libbpf.BpfObject(data, "l45_tap", pins / "maps") as tap:
        if missing := sorted(PROGRAMS - set(tap.programs)):
            raise TapError(
                f"the tap object is of another version: it has no {missing[0]}; "
                "`make build` makes the one of this version"
            )
        tap.load()
        programs, attach_types = tap.programs, tap.attach_types
        _set_answer(pins, programs["l45_answer"])
        # Hooks before the iterators: a socket made in between is seen by one of them.
        _attach_cgroup(pins, cgroup, programs, attach_types)
        for name in ITERATORS:
            libbpf.obj_pin(programs[name], pins / "programs" / name)
        with Tables.opened(run) as tables:
            tables.set_digest(hashlib.sha256(data).digest())
            find_owners(run, tables, since=time.monotonic_ns())
        for name in INTERFACE_HOOKS:
            libbpf.obj_pin(programs[name], pins / "programs" / name)


@contextmanager
def program(run: Path, name: str) -> Iterator[int]:
    """Open a pinned program."""
    fd = libbpf.obj_get(run / "bpf" / "programs" / name)
    try:
        yield fd
    finally:
        os.close(fd)


def find_owners(run: Path, tables: Tables, since: int) -> None:
    """Look at all open files for sockets, and who has them now.

    Not where that was done since then (ns of CLOCK_MONOTONIC), for whatever namespace: it takes
    10 ms for 20,000 files, and of many agents that wait for each other one does it for all.
    """
    if tables.scanned >= since:
        return
    tables.next_scan(time.monotonic_ns())
    _iterate(run, FIND_HEIRS)
    if tables.has_strangers:
        _iterate(run, SETTLE_HEIRS)


def _iterate(run: Path, name: str) -> None:
    with program(run, name) as fd:
        libbpf.run_iterator(fd)


def forget_dead(run: Path, tables: Tables) -> list[int]:
    """Take the sets of namespaces away that are gone; return the cookies that stood for them."""
    tables.ask_living()
    with program(run, FIND_LIVING) as fd:
        if not libbpf.run_once(fd):
            return []  # not all were seen
    if dead := tables.forget_dead():
        logger.info("tap_forgot netns=%s", ",".join(map(str, dead)))
    return dead


def _set_answer(pins: Path, program: int) -> None:
    with closing(libbpf.Map.pinned(pins / "maps" / "l45_dispatch", 4, 4)) as dispatch:
        dispatch.update(PLACE_ANSWER.to_bytes(4, "little"), program.to_bytes(4, "little"))


def _attach_cgroup(
    pins: Path, cgroup: Path, programs: dict[str, int], attach_types: dict[str, int]
) -> None:
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in CGROUP_HOOKS:
            link = libbpf.link_create(programs[name], folder, attach_types[name])
            try:
                libbpf.obj_pin(link, pins / "links" / name)
            finally:
                os.close(link)
    finally:
        os.close(folder)


def _remove_pins(run: Path) -> None:
    """Remove all pins; what made the installation whole first, the maps last."""
    for name in ("programs", "links", "maps"):
        folder = run / "bpf" / name
        for pin in sorted(folder.iterdir(), reverse=True) if folder.exists() else ():
            pin.unlink()
        if folder.exists():
            folder.rmdir()


def remove_locked(run: Path) -> None:
    """Remove the program set and the mount, for a caller that holds the lock."""
    pins = run / "bpf"
    _remove_pins(run)
    if _mounted(pins):
        _command("umount", str(pins))
    if pins.exists():
        pins.rmdir()
    logger.info("tap_uninstalled run=%s", run)
