"""The eBPF tap's driver: the `Tap` of the agent over the pinned maps of the program set."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyroute2.netlink.exceptions import NetlinkError

from host_agent import bpf_flows, bpf_install, bpf_tc, libbpf
from host_agent.bpf_abi import (
    FLAG_DEPRECATED,
    FLAG_INACTIVE,
    FLAG_RECEIVE,
    FLAG_SEND,
    pack_customization,
)
from host_agent.bpf_install import INTERFACE_HOOKS, install, installed, unavailable
from host_agent.bpf_tables import Member, Module, Tables, forget_all, plan
from host_agent.privileges import RUN, locked, needs_root
from host_agent.tap import Proof, TapError, TapStatus
from wire.artifact import Artifact
from wire.challenge import Challenge
from wire.messages import MAX_CUSTOMIZATIONS, Counters, Customization, Flow, Status, Target

__all__ = [
    "BpfTap",
    "TapStatus",
    "install",
    "installed",
    "needs_root",
    "status",
    "unavailable",
    "uninstall",
]

logger = logging.getLogger(__name__)

SO_NETNS_COOKIE = 71
OWNERS_SECONDS = 5.0
"""How often open files are looked at while there are customizations, for all namespaces."""
MODULE_PROGRAMS = {"l45_send", "l45_recv"}
MODULE_MAPS = {"l45_context", "l45_customizations", "l45_dispatch"}


def netns_cookie() -> int:
    """Return the kernel's number of the network namespace that this thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")


@contextmanager
def _tap_errors() -> Iterator[None]:
    """Turn what libbpf, netlink and the file system say into TapError."""
    try:
        yield
    except (libbpf.LibbpfError, NetlinkError, OSError) as error:
        raise TapError(f"bpf tap: {error}") from error


class BpfTap:
    """Customizations of the network namespace that the calling thread is in."""

    name = "bpf"
    target: Target = "bpf"

    def __init__(self, run: Path = RUN, tap_object: Path | None = None) -> None:
        self._run = run
        self._tap_object = tap_object
        self._links: bpf_tc.LinkWatch | None = None

    def start(self) -> None:
        """Install the program set if need be and possible; meet packets where there is a set."""
        cookie = netns_cookie()
        with locked(self._run), _tap_errors():
            bpf_install.install_locked(self._run, self._tap_object)
            self._links = bpf_tc.LinkWatch()
            bpf_tc.prepare()
            with Tables.opened(self._run) as tables:
                if dead := bpf_install.forget_dead(self._run, tables):
                    tables.sweep(dead)
                if tables.members(cookie):
                    self._attach()
        logger.info("tap_started tap=bpf netns=%d", cookie)

    def _attach(self) -> None:
        folder = self._run / "bpf" / "programs"
        programs: dict[str, int] = {}
        try:
            for name in INTERFACE_HOOKS:
                programs[name] = libbpf.obj_get(folder / name)
            bpf_tc.attach(programs)
        finally:
            for fd in programs.values():
                os.close(fd)

    @contextmanager
    def _tables(self) -> Iterator[Tables]:
        if not installed(self._run):
            raise TapError("the bpf tap is not installed: start it first")
        with _tap_errors(), Tables.opened(self._run) as tables:
            yield tables

    @contextmanager
    def _locked_tables(self) -> Iterator[Tables]:
        with locked(self._run), self._tables() as tables:
            yield tables

    def has_artifact(self, digest: str) -> bool:
        """Whether the module with this digest is in the dispatch table."""
        with self._tables() as tables:
            return tables.slot_of(digest) is not None

    def load_artifact(self, artifact: Artifact) -> None:
        """Let the kernel verify and load a module, and give it a slot; runs nothing."""
        if artifact.target != self.target:
            raise TapError(f"artifact {artifact.name} is for {artifact.target!r}, not for bpf")
        with self._locked_tables() as tables:
            slot = tables.slot_of(artifact.digest)
            if slot is not None:
                tables.hold(slot, netns_cookie())
                return
            with libbpf.BpfObject(artifact.data, artifact.name, self._run / "bpf/maps") as module:
                _check_module(artifact.name, module)
                module.load()
                programs = module.programs
                entry = Module(artifact.digest, artifact.name, netns_cookie())
                tables.add_module(entry, programs["l45_send"], programs["l45_recv"])
        logger.info("module_loaded module=%s digest=%s", artifact.name, artifact.digest)

    def apply(self, customizations: Sequence[Customization]) -> None:
        """Switch this namespace to these customizations, and free what no namespace uses."""
        cookie, asked = netns_cookie(), time.monotonic_ns()
        _check_set(customizations)
        with self._locked_tables() as tables:
            slots = {module.digest: slot for slot, module in tables.modules().items()}
            wanted = [_packed(c, slots) for c in sorted(customizations, key=_order)]
            used = {member.index for member in tables.everything()}
            dead = bpf_install.forget_dead(self._run, tables)
            members = plan(wanted, tables.members(cookie), used, time.monotonic_ns())
            if members:
                self._attach()  # interfaces may have come since
                bpf_install.find_owners(self._run, tables, asked)
            tables.switch(cookie, members)
            freed = tables.sweep([cookie, *dead])
            if not members:
                bpf_tc.detach()  # a namespace without customizations pays nothing for packets
        logger.info(
            "tap_applied netns=%d customizations=%d freed=%d", cookie, len(members), len(freed)
        )

    def customizations(self) -> list[Status]:
        """Return what is in force in this namespace, in the order in which it is asked.

        Interfaces that have come since get their filters now, and sockets that were handed from
        one program to another their owners, if nobody has looked for some seconds.
        """
        with self._locked_tables() as tables:
            members = tables.members(netns_cookie())
            if members:
                since = time.monotonic_ns() - int(OWNERS_SECONDS * 1e9)
                bpf_install.find_owners(self._run, tables, since)
            if self._links and self._links.has_news():
                bpf_tc.prepare()
                if members:
                    self._attach()
            modules, flows = tables.modules(), self._flows_of(members)
            return [
                _status(member, modules[member.slot], tables.counters(member.index), flows)
                for member in members
            ]

    def flows(self) -> list[Flow]:
        """Return the namespace's sockets that have customizations, the newest first."""
        with self._locked_tables() as tables:
            return bpf_flows.newest(self._flows_of(tables.members(netns_cookie())))

    def _flows_of(self, members: Sequence[Member]) -> list[Flow]:
        """Return the flows, of which the caller sees to it that the set stays as it is."""
        if not members:
            return []
        room = bpf_flows.FLOWS_MAX * bpf_flows.RECORD_MAX
        with bpf_install.program(self._run, bpf_install.LIST_FLOWS) as fd:
            said = libbpf.run_iterator(fd, room)
        return bpf_flows.parse(said, [one.id for one in members], bpf_flows.Clock.now())

    def evidence(self, customization: str) -> bytes:
        """Return the tags of the programs that a customization runs, as the kernel has them.

        The kernel's tag of a program is the begin of a hash of its instructions: first that of
        `send`, then that of `recv`, eight bytes each. Raises TapError where there is no such
        customization.
        """
        with self._locked_tables() as tables:
            for member in tables.members(netns_cookie()):
                if member.id == customization:
                    return tables.tags(member.slot)
        raise TapError(f"customization {customization} is not in force")

    def prove(self, customization: Customization, nonce: bytes) -> Proof:
        """Answer a challenge over the tags of the programs; the kernel has no say in it."""
        evidence = self.evidence(customization.id)
        asked = Challenge(customization.key, nonce, customization.id, evidence)
        return Proof(asked.answer(), evidence, "agent")

    def stop(self) -> None:
        """Take this namespace's customizations and filters away; the program set stays."""
        cookie = netns_cookie()
        with locked(self._run), _tap_errors():
            if installed(self._run):
                with Tables.opened(self._run) as tables:
                    tables.switch(cookie, [])
                    tables.sweep([cookie])
            bpf_tc.withdraw()
        logger.info("tap_stopped tap=bpf netns=%d", cookie)


def _status(member: Member, module: Module, counters: Counters, flows: Sequence[Flow]) -> Status:
    having = sum(one.id == member.id for flow in flows for one in flow.customizations)
    return Status(
        id=member.id,
        module=module.name,
        digest=module.digest,
        receive=member.receive,
        send=member.send,
        active=member.is_active,
        deprecated=member.is_deprecated,
        flows=having,
        counters=counters,
    )


def _check_module(name: str, module: libbpf.BpfObject) -> None:
    if set(module.programs) != MODULE_PROGRAMS:
        raise TapError(f"artifact {name} is no module: it has programs {sorted(module.programs)}")
    # Constants of the compiler (.rodata) are its own; all else would be pinned beside the tap's.
    if foreign := sorted(m for m in module.maps if m not in MODULE_MAPS and "." not in m):
        raise TapError(f"artifact {name} brings maps of its own: {', '.join(foreign)}")


def _check_set(customizations: Sequence[Customization]) -> None:
    if len(customizations) > MAX_CUSTOMIZATIONS:
        raise TapError(f"a namespace has at most {MAX_CUSTOMIZATIONS} customizations")
    if len({c.id for c in customizations}) != len(customizations):
        raise TapError("two customizations have the same id")
    for c in customizations:
        if c.target != BpfTap.target:
            raise TapError(f"customization {c.id}: its artifact is for {c.target!r}, not for bpf")
        if lacking := c.match.beyond_bpf:
            raise TapError(f"customization {c.id}: the bpf tap has no {lacking}; the kmod tap has")


def _order(customization: Customization) -> tuple[int, str]:
    return customization.priority, customization.id


def _packed(customization: Customization, slots: dict[str, int]) -> tuple[bytes, int]:
    """Return the customization as the kernel has it: entry and flags."""
    slot = slots.get(customization.digest)
    if slot is None:
        raise TapError(
            f"customization {customization.id}: artifact {customization.digest} is not loaded"
        )
    entry = pack_customization(
        customization.id, customization.match, slot, customization.parameters
    )
    flags = (
        FLAG_SEND * customization.send
        | FLAG_RECEIVE * customization.receive
        | FLAG_INACTIVE * (not customization.active)
        | FLAG_DEPRECATED * customization.deprecated
    )
    return bytes(entry), flags


def uninstall(run: Path = RUN) -> None:
    """Take everything away: sets of all namespaces, filters of this one, pins, the mount.

    Filters in other namespaces do nothing any more, and go when their agents stop or with their
    interfaces.
    """
    with locked(run), _tap_errors():
        if installed(run):
            forget_all(run)
        bpf_tc.withdraw()
        bpf_install.remove_locked(run)


def status(run: Path = RUN) -> TapStatus:
    """Return what the program set of this kernel holds."""
    if not installed(run):
        return TapStatus(installed=False)
    with locked(run), _tap_errors(), Tables.opened(run) as tables:
        modules = tuple(sorted(module.name for module in tables.modules().values()))
        return TapStatus(True, len(tables.namespaces()), len(tables.everything()), modules)
