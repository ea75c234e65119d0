"""What the maps of the eBPF tap say, and how they are changed so that a crash breaks nothing.

All state of the driver is in these maps: the set of each namespace (customizations by index), the
table of customizations, their counters, the modules in the slots of the dispatch table. An index
or a slot is in use while a set refers to it, so what a crash leaves behind is free by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from host_agent import libbpf
from host_agent.bpf_abi import (
    FLAG_DEPRECATED,
    FLAG_INACTIVE,
    FLAG_RECEIVE,
    FLAG_SEND,
    ID,
    MODULES_MAX,
    TABLE_MAX,
    AttachedStruct,
    CountersStruct,
    CustomizationStruct,
    InfoStruct,
    ModuleStruct,
    SetStruct,
    place,
    sum_counters,
)
from host_agent.tap import TapError
from wire.messages import MAX_CUSTOMIZATIONS, Counters

S = TypeVar("S", bound=ctypes.Structure)

FIRST = bytes(4)
FULL = "`dca tap unload` frees them, also those of namespaces that are gone"


@dataclass(frozen=True)
class Member:
    """A customization in a namespace's set."""

    index: int
    flags: int
    entry: bytes
    """struct l45_customization."""
    deprecated: int = 0
    """Since when new sockets do without it, ns of CLOCK_MONOTONIC."""

    @property
    def id(self) -> str:
        """The customization's id, hexadecimal."""
        return self.entry[:ID].hex()

    @property
    def slot(self) -> int:
        """The slot of its module."""
        return int(CustomizationStruct.from_buffer_copy(self.entry).slot)

    @property
    def receive(self) -> bool:
        """Whether it is attached for arriving messages."""
        return bool(self.flags & FLAG_RECEIVE)

    @property
    def send(self) -> bool:
        """Whether it is attached for leaving messages."""
        return bool(self.flags & FLAG_SEND)

    @property
    def is_active(self) -> bool:
        """Whether it is not passed over."""
        return not self.flags & FLAG_INACTIVE

    @property
    def is_deprecated(self) -> bool:
        """Whether new sockets do without it."""
        return bool(self.flags & FLAG_DEPRECATED)


@dataclass(frozen=True)
class Module:
    """A module artifact in a slot of the dispatch table."""

    digest: str
    name: str
    holder: int
    """Cookie of the last namespace that asked for it and did not apply a set since, or 0."""


def plan(
    wanted: Sequence[tuple[bytes, int]], own: Sequence[Member], used: set[int], now: int
) -> list[Member]:
    """Give each wanted customization (entry, flags) an index, in order.

    One that is there already with the same entry keeps its index; all others get an index that
    no set uses, because an entry must not change under a packet. Raises TapError where the table
    is full. One that is deprecated keeps its time, or that is `now`, ns of CLOCK_MONOTONIC.
    """
    present = {member.entry: member.index for member in own}
    fresh = [entry for entry, _ in wanted if entry not in present]
    free = list(islice((i for i in range(TABLE_MAX) if i not in used), len(fresh)))
    if len(free) < len(fresh):
        raise TapError(f"all {TABLE_MAX} customizations of this kernel are in use; {FULL}")
    present |= dict(zip(fresh, free, strict=True))
    members = [Member(present[entry], flags, entry) for entry, flags in wanted]
    before = {member.id: member for member in own}
    return [replace(one, deprecated=_deprecated(one, before.get(one.id), now)) for one in members]


def _deprecated(one: Member, before: Member | None, now: int) -> int:
    if not one.is_deprecated or before is None:
        return 0  # deprecated from the first day: no socket is that old
    return before.deprecated if before.is_deprecated else now


def _after(number: int) -> int:
    """Return the next number of 32 bits, never 0."""
    return (number + 1) % 2**32 or 1


def _read(kind: type[S], raw: bytes | None) -> S:
    """Return a structure of a map; what is not there is all zero."""
    return kind.from_buffer_copy(raw or bytes(ctypes.sizeof(kind)))


def _key(number: int) -> bytes:
    return number.to_bytes(4, "little")


class Tables:
    """The pinned maps, open."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def pinned(name: str, key_size: int, value_size: int, copies: int = 1) -> libbpf.Map:
            opened = libbpf.Map.pinned(folder / name, key_size, value_size, copies)
            stack.callback(opened.close)
            return opened

        # A per-CPU map gives a value for each CPU, its size a multiple of eight.
        counts_size, cpus = ctypes.sizeof(CountersStruct), libbpf.possible_cpus()
        self._sets = pinned("l45_namespaces", 8, 4)
        self._entries = pinned("l45_customizations", 4, ctypes.sizeof(CustomizationStruct))
        self._counts = pinned("l45_counts", 4, counts_size, cpus)
        self._modules = pinned("l45_modules", 4, ctypes.sizeof(ModuleStruct))
        self._dispatch = pinned("l45_dispatch", 4, 4)
        self._info = pinned("l45_info", 4, ctypes.sizeof(InfoStruct))
        self._living = pinned("l45_living", 8, 4)
        self._no_counts = bytes(counts_size * cpus)

    @classmethod
    @contextmanager
    def opened(cls, run: Path) -> Iterator[Tables]:
        """Open the maps pinned under `run`."""
        with ExitStack() as stack:
            yield cls(run / "bpf" / "maps", stack)

    def namespaces(self) -> list[int]:
        """Cookies of the namespaces that have a set."""
        return [int.from_bytes(key, "little") for key in self._sets.keys()]  # noqa: SIM118

    def members(self, cookie: int) -> list[Member]:
        """Return the set of a namespace, the first to be asked first."""
        number = self._sets.lookup(cookie.to_bytes(8, "little"))
        if number is None:
            return []
        size = ctypes.sizeof(SetStruct)
        with closing(libbpf.Map.by_id(int.from_bytes(number, "little"), 4, size)) as inner:
            content = _read(SetStruct, inner.lookup(FIRST))
        return [self._member(attached) for attached in content.entries[: content.count]]

    def _member(self, attached: AttachedStruct) -> Member:
        entry = _read(CustomizationStruct, self._entries.lookup(_key(attached.index)))
        return Member(attached.index, attached.flags, bytes(entry), attached.deprecated)

    def everything(self) -> list[Member]:
        """Return the members of all sets."""
        return [member for cookie in self.namespaces() for member in self.members(cookie)]

    def counters(self, index: int) -> Counters:
        """Return what the customization at `index` did."""
        return Counters(**sum_counters(self._counts.lookup(_key(index)) or b""))

    def switch(self, cookie: int, members: Sequence[Member]) -> None:
        """Make `members` the set of the namespace, in one step.

        When this returns, no packet is under way with the old set any more (the kernel waits).
        """
        own = self.members(cookie)
        counts = {member.id: member.index for member in own}
        there = {member.index for member in own}
        for member in members:
            if member.index not in there:
                before = counts.get(member.id)
                carried = None if before is None else self._counts.lookup(_key(before))
                self._counts.update(_key(member.index), carried or self._no_counts)
                self._entries.update(_key(member.index), member.entry)
        if members:
            self._replace(cookie, members)
        else:
            self._sets.delete(cookie.to_bytes(8, "little"))

    def _replace(self, cookie: int, members: Sequence[Member]) -> None:
        if len(members) > MAX_CUSTOMIZATIONS:
            raise TapError(f"a namespace has at most {MAX_CUSTOMIZATIONS} customizations")
        content = SetStruct(count=len(members), number=self._next_set())
        for position, one in enumerate(members):
            content.entries[position] = AttachedStruct(one.index, one.flags, one.deprecated)
        with closing(libbpf.Map.create_array("l45_set", ctypes.sizeof(SetStruct), 1)) as inner:
            inner.update(FIRST, bytes(content))
            self._sets.update(cookie.to_bytes(8, "little"), _key(inner.fd))

    def next_scan(self, now: int) -> None:
        """Begin another look at open files: what an earlier one noted counts no more."""
        info = self._read_info()
        info.scan, info.scanned, info.strangers = _after(info.scan), now, 0
        self._info.update(FIRST, bytes(info))

    @property
    def scanned(self) -> int:
        """When open files were looked at, for any namespace, ns of CLOCK_MONOTONIC."""
        return int(self._read_info().scanned)

    @property
    def has_strangers(self) -> bool:
        """Whether somebody was seen then with a socket that is another's."""
        return bool(self._read_info().strangers)

    def _next_set(self) -> int:
        info = self._read_info()
        info.sets = _after(info.sets)
        self._info.update(FIRST, bytes(info))
        return int(info.sets)

    def _read_info(self) -> InfoStruct:
        return _read(InfoStruct, self._info.lookup(FIRST))

    def set_digest(self, digest: bytes) -> None:
        """Note the SHA-256 of the object that the program set was loaded from."""
        info = self._read_info()
        info.digest[:] = digest
        self._info.update(FIRST, bytes(info))

    def ask_living(self) -> None:
        """Write down the namespaces that have or hold anything, for the kernel to mark."""
        for key in list(self._living.keys()):
            self._living.delete(key)
        holders = {module.holder for module in self.modules().values()} - {0}
        for cookie in holders.union(self.namespaces()):
            self._living.update(cookie.to_bytes(8, "little"), FIRST)

    def forget_dead(self) -> list[int]:
        """Take the sets of namespaces away that the kernel has not marked; return those."""
        asked = list(self._living.keys())
        dead = [key for key in asked if self._living.lookup(key) == FIRST]
        for key in dead:
            self._sets.delete(key)
        return [int.from_bytes(key, "little") for key in dead]

    def modules(self) -> dict[int, Module]:
        """Return the loaded modules by slot."""
        found = {}
        for slot in range(MODULES_MAX):
            entry = _read(ModuleStruct, self._modules.lookup(_key(slot)))
            if any(entry.digest):
                name = entry.name.decode(errors="replace")
                found[slot] = Module(bytes(entry.digest).hex(), name, entry.holder)
        return found

    def slot_of(self, digest: str) -> int | None:
        """Return the slot of a loaded module, or None."""
        slots = (slot for slot, module in self.modules().items() if module.digest == digest)
        return next(slots, None)

    def tags(self, slot: int) -> bytes:
        """Return the kernel's tags of a slot's programs, first that of `send`."""
        places = place(slot, receive=False), place(slot, receive=True)
        numbers = [self._dispatch.lookup(_key(one)) or FIRST for one in places]
        return b"".join(libbpf.program_tag(int.from_bytes(one, "little")) for one in numbers)

    def add_module(self, module: Module, send: int, receive: int) -> None:
        """Put a module's programs (file descriptors) into a free slot; its entry comes last.

        Raises TapError where no slot is free.
        """
        taken = self.modules()
        slot = next((slot for slot in range(MODULES_MAX) if slot not in taken), None)
        if slot is None:
            raise TapError(f"all {MODULES_MAX} module slots of this kernel are in use; {FULL}")
        self._dispatch.update(_key(place(slot, receive=False)), _key(send))
        self._dispatch.update(_key(place(slot, receive=True)), _key(receive))
        self._write_module(slot, module)

    def hold(self, slot: int, cookie: int) -> None:
        """Keep a loaded module for a namespace until that applies a set: others sweep meanwhile."""
        self._write_module(slot, replace(self.modules()[slot], holder=cookie))

    def _write_module(self, slot: int, module: Module) -> None:
        entry = ModuleStruct(name=module.name.encode(), holder=module.holder)
        entry.digest[:] = bytes.fromhex(module.digest)
        self._modules.update(_key(slot), bytes(entry))

    def sweep(self, holders: Collection[int]) -> list[Module]:
        """Free the modules that no set uses and only these namespaces' drivers hold.

        Returns them. The entry goes first: a module whose entry is there can be called.
        """
        in_use = {member.slot for member in self.everything()}
        modules, freed = self.modules(), []
        for slot, module in modules.items():
            if slot in in_use and module.holder in holders:
                self._write_module(slot, replace(module, holder=0))
            elif slot not in in_use and module.holder in (0, *holders):
                self._modules.update(_key(slot), bytes(ctypes.sizeof(ModuleStruct)))
                freed.append(module)
        kept = {slot for slot in modules if modules[slot] not in freed}
        for slot in set(range(MODULES_MAX)) - kept:  # also what a crash left without entry
            self._dispatch.delete(_key(place(slot, receive=False)))
            self._dispatch.delete(_key(place(slot, receive=True)))
        return freed


def _any_versions_sets(run: Path) -> closing[libbpf.Map]:
    """Open, for a block, the one map that all versions of the tap have."""
    return closing(libbpf.Map.pinned(run / "bpf" / "maps" / "l45_namespaces", 8, 4))


def has_sets(run: Path) -> bool:
    """Whether any namespace has customizations, also those of another version of the tap."""
    with _any_versions_sets(run) as sets:
        return any(True for _ in sets.keys())  # noqa: SIM118


def forget_all(run: Path) -> None:
    """Take the sets of all namespaces away, also those of another version of the tap."""
    with _any_versions_sets(run) as sets:
        for cookie in list(sets.keys()):
            sets.delete(cookie)


def digest(run: Path) -> bytes | None:
    """Return the SHA-256 of the object that was loaded; None from a version that has none."""
    try:
        info = libbpf.Map.pinned(run / "bpf/maps/l45_info", 4, ctypes.sizeof(InfoStruct))
    except libbpf.LibbpfError:
        return None
    with closing(info):
        return bytes(_read(InfoStruct, info.lookup(FIRST)).digest)
