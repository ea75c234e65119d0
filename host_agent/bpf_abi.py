"""Structures in the maps of the eBPF tap, as `kernel_tap/include/l45/abi.h` lays them out."""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_uint8, c_uint16, c_uint32, c_uint64
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from wire.match import EXECUTABLE_MAX, Match
from wire.messages import MAX_CUSTOMIZATIONS, MAX_PARAMETERS

COMM = 16
PATH = EXECUTABLE_MAX + 1
ID = 16
LEFT_MAX = 4
TABLE_MAX = 4096
"""Customizations of all namespaces of one kernel."""
MODULES_MAX = 64
"""Module artifacts of all namespaces of one kernel."""

FLAG_SEND = 1
FLAG_RECEIVE = 2
FLAG_INACTIVE = 4
FLAG_DEPRECATED = 8

PLACE_ANSWER = 2 * MODULES_MAX
PROTOCOLS = {"udp": 17, "tcp": 6}

MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one (RFC 4291, 2.5.5.2)."""


class PrefixStruct(ctypes.Structure):
    """struct l45_prefix, in network order."""

    _fields_ = (("address", c_uint8 * 16), ("mask", c_uint8 * 16))


class MatchStruct(ctypes.Structure):
    """struct l45_match."""

    _fields_ = (
        ("executable", c_uint8 * PATH),
        ("thread", c_uint8 * COMM),
        ("process", c_uint8 * COMM),
        ("local", PrefixStruct),
        ("remote", PrefixStruct),
        ("local_port", c_uint16),
        ("local_port_last", c_uint16),
        ("remote_port", c_uint16),
        ("remote_port_last", c_uint16),
        ("protocol", c_uint32),
        ("by_uid", c_uint32),
        ("uid", c_uint32),
        ("unused", c_uint32),
    )


class EndsStruct(ctypes.Structure):
    """struct l45_ends; addresses in network order."""

    _fields_ = (
        ("local", c_uint8 * 16),
        ("remote", c_uint8 * 16),
        ("local_port", c_uint16),
        ("remote_port", c_uint16),
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

    _fields_ = (("index", c_uint32), ("flags", c_uint32), ("deprecated", c_uint64))


class SetStruct(ctypes.Structure):
    """struct l45_set."""

    _fields_ = (
        ("count", c_uint32),
        ("number", c_uint32),
        ("entries", AttachedStruct * MAX_CUSTOMIZATIONS),
    )


class UserStruct(ctypes.Structure):
    """struct l45_user."""

    _fields_ = (
        ("thread", c_uint8 * COMM),
        ("process", c_uint8 * COMM),
        ("exec_id", c_uint64),
        ("tgid", c_uint32),
        ("uid", c_uint32),
    )


class OwnerStruct(ctypes.Structure):
    """struct l45_owner."""

    _fields_ = (
        ("executable", c_uint8 * PATH),
        ("user", UserStruct),
        ("pid", c_uint32),
        ("used", c_uint32),
    )


class SocketStruct(ctypes.Structure):
    """struct l45_socket."""

    _fields_ = (
        ("owner", OwnerStruct),
        ("netns", c_uint64),
        ("opened", c_uint64),
        ("matched", c_uint64),
        ("version", c_uint32),
        ("left_count", c_uint32),
        ("left", c_uint8 * ID * LEFT_MAX),
        ("heir_age", c_uint64),
        ("heir", c_uint32),
        ("scan", c_uint32),
        ("unused", c_uint8 * 88),
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
        ("sent_bytes", c_uint64),
        ("received_bytes", c_uint64),
    )


class OnFlowStruct(ctypes.Structure):
    """struct l45_on_flow."""

    _fields_ = (("id", c_uint8 * ID), ("counters", CountersStruct))


class FlowCountsStruct(ctypes.Structure):
    """struct l45_flow_counts."""

    _fields_ = (
        ("ends", EndsStruct),
        ("last_sent", c_uint64),
        ("last_received", c_uint64),
        ("next", c_uint64),
        ("on", OnFlowStruct * MAX_CUSTOMIZATIONS),
    )


class FlowHeadStruct(ctypes.Structure):
    """struct l45_flow_head."""

    _fields_ = (
        ("cookie", c_uint64),
        ("attached", c_uint32),
        ("counted", c_uint32),
        ("ends", EndsStruct),
    )


class InfoStruct(ctypes.Structure):
    """struct l45_info."""

    _fields_ = (
        ("digest", c_uint8 * 32),
        ("sets", c_uint32),
        ("scan", c_uint32),
        ("scanned", c_uint64),
        ("strangers", c_uint32),
        ("unused", c_uint32),
    )


class ModuleStruct(ctypes.Structure):
    """struct l45_module_entry."""

    _fields_ = (
        ("digest", c_uint8 * 32),
        ("name", c_char * 32),
        ("holder", c_uint64),
    )


SHARED = {
    "l45_prefix": PrefixStruct,
    "l45_match": MatchStruct,
    "l45_ends": EndsStruct,
    "l45_customization": CustomizationStruct,
    "l45_attached": AttachedStruct,
    "l45_set": SetStruct,
    "l45_user": UserStruct,
    "l45_owner": OwnerStruct,
    "l45_socket": SocketStruct,
    "l45_counters": CountersStruct,
    "l45_on_flow": OnFlowStruct,
    "l45_flow_counts": FlowCountsStruct,
    "l45_flow_head": FlowHeadStruct,
    "l45_info": InfoStruct,
    "l45_module_entry": ModuleStruct,
}
"""The C structures that have a twin here."""


def place(slot: int, *, receive: bool) -> int:
    """Return the place in the dispatch table of a module's program."""
    return 2 * slot + receive


def pack_address(address: IPv4Address | IPv6Address) -> bytes:
    """Return an address as the tap has it: an IPv4 one mapped into IPv6."""
    return MAPPED + address.packed if address.version == 4 else address.packed


def pack_prefix(prefix: IPv4Network | IPv6Network) -> PrefixStruct:
    """Return a prefix as the tap has it: an IPv4 one is 96 longer, so that no IPv6 matches it."""
    packed = PrefixStruct()
    before = b"\xff" * 12 if prefix.version == 4 else b""
    packed.address[:] = pack_address(prefix.network_address)
    packed.mask[:] = before + prefix.netmask.packed
    return packed


def pack_path(path: str) -> bytes:
    """Return a path as the tap has it: with NUL in front."""
    return path.encode().rjust(PATH, b"\0")


def pack_match(match: Match) -> MatchStruct:
    """Return `match` as the kernel compares it; what is left out is zero."""
    packed = MatchStruct(
        protocol=PROTOCOLS[match.transport],
        by_uid=match.uid is not None,
        uid=match.uid or 0,
        local_port=match.local_ports.start,
        local_port_last=match.local_ports.stop - 1,
        remote_port=match.remote_ports.start,
        remote_port_last=match.remote_ports.stop - 1,
    )
    for name in ("thread", "process"):
        value = (getattr(match, name) or "").encode()
        getattr(packed, name)[: len(value)] = value
    packed.executable[:] = pack_path(match.executable or "")
    for name in ("local", "remote"):
        if (prefix := getattr(match, name)) is not None:
            setattr(packed, name, pack_prefix(prefix))
    return packed


def pack_customization(
    identifier: str, match: Match, slot: int, parameters: bytes
) -> CustomizationStruct:
    """Return the entry of the table of customizations."""
    entry = CustomizationStruct(match=pack_match(match), slot=slot, parameters_size=len(parameters))
    entry.id[:] = bytes.fromhex(identifier)
    entry.parameters[: len(parameters)] = parameters
    return entry


def counts_of(counters: CountersStruct) -> dict[str, int]:
    """Return counters by name."""
    return {name: getattr(counters, name) for name, _ in CountersStruct._fields_}


def sum_counters(per_cpu: bytes) -> dict[str, int]:
    """Add up the counters of all CPUs, as a lookup in a per-CPU map gives them."""
    size = ctypes.sizeof(CountersStruct)
    each = [
        counts_of(CountersStruct.from_buffer_copy(per_cpu, offset))
        for offset in range(0, len(per_cpu), size)
    ]
    names = [field[0] for field in CountersStruct._fields_]
    return {name: sum(counts[name] for counts in each) for name in names}
