"""Structures in the maps of the eBPF tap, as `kernel_tap/include/l45/abi.h` lays them out."""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_uint8, c_uint32, c_uint64

from wire.match import Match
from wire.messages import MAX_CUSTOMIZATIONS, MAX_PARAMETERS

COMM = 16
ID = 16
TABLE_MAX = 4096
"""Customizations of all namespaces of one kernel."""
MODULES_MAX = 64
"""Module artifacts of all namespaces of one kernel."""

FLAG_SEND = 1
FLAG_RECEIVE = 2

PLACE_ANSWER = 2 * MODULES_MAX
PROTOCOLS = {"udp": 17, "tcp": 6}


class MatchStruct(ctypes.Structure):
    """struct l45_match; addresses, masks and ports in network order."""

    _fields_ = (
        ("thread", c_uint8 * COMM),
        ("process", c_uint8 * COMM),
        ("local", c_uint8 * 4),
        ("local_mask", c_uint8 * 4),
        ("remote", c_uint8 * 4),
        ("remote_mask", c_uint8 * 4),
        ("local_port", c_uint8 * 2),
        ("remote_port", c_uint8 * 2),
        ("protocol", c_uint32),
    )


class CustomizationStruct(ctypes.Structure):
    """struct l45_customization."""

    _fields_ = (
        ("id", c_uint8 * ID),
        ("match", MatchStruct),
        ("slot", c_uint32),
        ("parameters_size", c_uint32),
        ("parameters", c_uint8 * MAX_PARAMETERS),
    )


class AttachedStruct(ctypes.Structure):
    """struct l45_attached."""

    _fields_ = (("index", c_uint32), ("flags", c_uint32))


class SetStruct(ctypes.Structure):
    """struct l45_set."""

    _fields_ = (
        ("count", c_uint32),
        ("unused", c_uint32),
        ("entries", AttachedStruct * MAX_CUSTOMIZATIONS),
    )


class CountersStruct(ctypes.Structure):
    """struct l45_counters; the names are those of `wire.messages.Counters`."""

    _fields_ = (
        ("sent", c_uint64),
        ("received", c_uint64),
        ("passed", c_uint64),
        ("dropped", c_uint64),
        ("errors", c_uint64),
        ("too_big", c_uint64),
    )


class ModuleStruct(ctypes.Structure):
    """struct l45_module_entry."""

    _fields_ = (
        ("digest", c_uint8 * 32),
        ("name", c_char * 32),
        ("holder", c_uint64),
    )


SHARED = {
    "l45_match": MatchStruct,
    "l45_customization": CustomizationStruct,
    "l45_attached": AttachedStruct,
    "l45_set": SetStruct,
    "l45_counters": CountersStruct,
    "l45_module_entry": ModuleStruct,
}
"""The C structures that have a twin here."""


def place(slot: int, *, receive: bool) -> int:
    """Return the place in the dispatch table of a module's program."""
    return 2 * slot + receive


def pack_match(match: Match) -> MatchStruct:
    """Return `match` as the kernel compares it; what is left out is zero."""
    packed = MatchStruct(protocol=PROTOCOLS[match.transport])
    values = {
        "thread": (match.thread or "").encode(),
        "process": (match.process or "").encode(),
        "local_port": (match.local_port or 0).to_bytes(2, "big"),
        "remote_port": (match.remote_port or 0).to_bytes(2, "big"),
    }
    for side, prefix in (("local", match.local), ("remote", match.remote)):
        if prefix is not None:
            values[side] = prefix.network_address.packed
            values[f"{side}_mask"] = prefix.netmask.packed
    for name, value in values.items():
        field = getattr(packed, name)
        field[: len(value)] = value
    return packed


def pack_customization(
    identifier: str, match: Match, slot: int, parameters: bytes
) -> CustomizationStruct:
    """Return the entry of the table of customizations."""
    entry = CustomizationStruct(match=pack_match(match), slot=slot, parameters_size=len(parameters))
    entry.id[:] = bytes.fromhex(identifier)
    entry.parameters[: len(parameters)] = parameters
    return entry


def sum_counters(per_cpu: bytes) -> dict[str, int]:
    """Add up the counters of all CPUs, as a lookup in a per-CPU map gives them."""
    size = ctypes.sizeof(CountersStruct)
    each = [
        CountersStruct.from_buffer_copy(per_cpu, offset) for offset in range(0, len(per_cpu), size)
    ]
    names = [field[0] for field in CountersStruct._fields_]
    return {name: sum(getattr(counters, name) for counters in each) for name in names}
