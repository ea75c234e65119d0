"""The sockets that have customizations, as the eBPF tap's iterator tells of them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from host_agent.bpf_abi import (
    EndsStruct,
    FlowCountsStruct,
    FlowHeadStruct,
    SocketStruct,
    counts_of,
)
from wire.messages import Counters, Flow, FlowCustomization

FLOWS_MAX = 4096
"""Flows of a namespace that are told of."""

RECORD_MAX = sum(map(ctypes.sizeof, (FlowHeadStruct, SocketStruct, FlowCountsStruct)))


@dataclass(frozen=True)
class Clock:
    """What must be added to CLOCK_MONOTONIC, which kernels count in, for Unix time."""

    offset: float

    @classmethod
    def now(cls) -> Clock:
        """Return that of this moment."""
        return cls(time.time() - time.monotonic())

    def seconds(self, nanoseconds: int) -> float | None:
        """Return Unix time; None for 0, which stands for never."""
        return max(0.0, nanoseconds / 1e9 + self.offset) if nanoseconds else None


def parse(data: bytes, ids: Sequence[str], clock: Clock) -> list[Flow]:
    """Return the flows that `data` tells of; `ids` are the customizations of the set, in order."""
    return [_flow(*record, ids, clock) for record in _records(data)]


def _records(data: bytes) -> Iterator[tuple[FlowHeadStruct, SocketStruct, FlowCountsStruct]]:
    offset = 0
    while offset + ctypes.sizeof(FlowHeadStruct) + ctypes.sizeof(SocketStruct) <= len(data):
        head = FlowHeadStruct.from_buffer_copy(data, offset)
        offset += ctypes.sizeof(head)
        socket = SocketStruct.from_buffer_copy(data, offset)
        offset += ctypes.sizeof(socket)
        counts = FlowCountsStruct()
        if head.counted:
            if offset + ctypes.sizeof(counts) > len(data):
                return
            counts = FlowCountsStruct.from_buffer_copy(data, offset)
            offset += ctypes.sizeof(counts)
        yield head, socket, counts


def _flow(
    head: FlowHeadStruct,
    socket: SocketStruct,
    counts: FlowCountsStruct,
    ids: Sequence[str],
    clock: Clock,
) -> Flow:
    owner, user = socket.owner, socket.owner.user
    attached = [one for place, one in enumerate(ids) if head.attached & 1 << place]
    return Flow(
        number=head.cookie,
        transport="udp",
        **_ends(head.ends, counts.ends),
        pid=owner.pid,
        tgid=user.tgid,
        thread=_text(user.thread),
        process=_text(user.process),
        executable=_text(owner.executable) or None,
        uid=user.uid,
        opened=clock.seconds(socket.opened),
        last_sent=clock.seconds(counts.last_sent),
        last_received=clock.seconds(counts.last_received),
        customizations=[FlowCustomization(id=one, counters=_of(one, counts)) for one in attached],
    )


def _ends(own: EndsStruct, last: EndsStruct) -> dict[str, str | int | None]:
    """Return the socket's ends; what it leaves open is that of its last message."""
    local = own.local if any(own.local) or not last.protocol else last.local
    peer = own if own.remote_port else last
    return {
        "local": _address(local),
        "local_port": own.local_port or last.local_port,
        "remote": _address(peer.remote) if peer.remote_port else None,
        "remote_port": peer.remote_port or None,
    }


def _address(packed: Sequence[int]) -> str:
    address = IPv6Address(bytes(packed))
    return str(address.ipv4_mapped or address)


def _text(padded: Sequence[int]) -> str:
    """Return text that has NUL before or behind it; processes may have names that are not UTF-8."""
    return bytes(padded).strip(b"\0").split(b"\0")[0].decode(errors="replace")


def _of(one: str, counts: FlowCountsStruct) -> Counters:
    """Return what a customization did; two CPUs can have made two places for it at once."""
    wanted = bytes.fromhex(one)
    found = [counts_of(on.counters) for on in counts.on if bytes(on.id) == wanted]
    return Counters(**{name: sum(each[name] for each in found) for name in Counters.model_fields})


def newest(flows: Sequence[Flow], room: int = FLOWS_MAX) -> list[Flow]:
    """Return the flows, the newest first, as many as there is room for."""
    return sorted(flows, key=lambda flow: flow.opened or 0.0, reverse=True)[:room]
