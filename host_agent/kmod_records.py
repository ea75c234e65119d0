"""What is said over the generic netlink family "l45": customizations to it, records from it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pyroute2.netlink import nla

from host_agent.kmod_abi import (
    FAULTS,
    FLAG_DEPRECATED,
    FLAG_DRAINING,
    FLAG_INACTIVE,
    FLAG_RECEIVE,
    FLAG_SEND,
    PROTOCOLS,
    RECEIVE_STATES,
    SEND_STATES,
)
from wire.match import Match
from wire.messages import Counters, Customization, Flow, FlowCustomization

MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one."""

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Code:
    """A kernel module that carries code of a module of ours."""

    name: str
    """The kernel module's."""
    module: str
    build_id: bytes
    users: int
    """Customizations of all namespaces."""


@dataclass(frozen=True)
class Attached:
    """A customization, of a namespace or on a flow."""

    id: str
    priority: int
    flags: int
    counters: Counters

    @property
    def is_sending(self) -> bool:
        """Whether its send switch is on."""
        return bool(self.flags & FLAG_SEND)

    @property
    def is_receiving(self) -> bool:
        """Whether its receive switch is on."""
        return bool(self.flags & FLAG_RECEIVE)

    @property
    def is_active(self) -> bool:
        """Whether it is not passed over."""
        return not self.flags & FLAG_INACTIVE

    @property
    def is_deprecated(self) -> bool:
        """Whether new flows do without it."""
        return bool(self.flags & FLAG_DEPRECATED)

    @property
    def is_draining(self) -> bool:
        """Whether it was taken away, and some flow has not noticed yet."""
        return bool(self.flags & FLAG_DRAINING)


@dataclass(frozen=True)
class InForce(Attached):
    """A customization of a namespace."""

    code: str
    module: str
    flows: int


@dataclass(frozen=True)
class FlowRecord:
    """A socket that has customizations; times in nanoseconds since 1970, 0: not yet."""

    number: int
    transport: str
    local: Address
    local_port: int
    remote: Address
    remote_port: int
    pid: int
    tgid: int
    uid: int
    thread: str
    process: str
    executable: str | None
    opened: int
    sent: int
    received: int
    send_state: str
    receive_state: str
    send_changes: int
    receive_changes: int
    send_id: str | None
    """The customization that frames what is sent."""
    receive_id: str | None
    fault: str
    attached: tuple[Attached, ...]
    """In the order of asking."""

    def message(self) -> Flow:
        """Return the flow as the NCO is told of it."""
        known = bool(self.remote_port)
        return Flow.model_validate(
            {
                "number": self.number,
                "transport": self.transport,
                "local": str(self.local),
                "local_port": self.local_port,
                "remote": str(self.remote) if known else None,
                "remote_port": self.remote_port if known else None,
                "pid": self.pid,
                "tgid": self.tgid,
                "thread": self.thread,
                "process": self.process,
                "executable": self.executable,
                "uid": self.uid,
                "opened": _seconds(self.opened),
                "last_sent": _seconds(self.sent),
                "last_received": _seconds(self.received),
                "state": self._state,
                "customizations": [
                    FlowCustomization(id=one.id, counters=one.counters) for one in self.attached
                ],
            }
        )

    @property
    def _state(self) -> str | None:
        if self.transport != "tcp":
            return None
        state = f"sends {self.send_state}, receives {self.receive_state}"
        return state if self.fault == "none" else f"{state}, broken: {self.fault}"


def pack_match(match: Match) -> dict[str, Any]:
    """Return the attributes of a match; what it leaves out is left out."""
    values: dict[str, Any] = {
        "L45_M_PROTOCOL": PROTOCOLS[match.transport],
        "L45_M_THREAD": match.thread,
        "L45_M_PROCESS": match.process,
        "L45_M_EXECUTABLE": match.executable,
        "L45_M_UID": match.uid,
        "L45_M_LOCAL_PORT": match.local_port,
        "L45_M_LOCAL_PORT_LAST": match.local_port_last,
        "L45_M_REMOTE_PORT": match.remote_port,
        "L45_M_REMOTE_PORT_LAST": match.remote_port_last,
    }
    for side, prefix in (("LOCAL", match.local), ("REMOTE", match.remote)):
        if prefix is not None:
            values[f"L45_M_{side}"] = pack_address(prefix.network_address)
            mapped = 96 if prefix.version == 4 else 0
            values[f"L45_M_{side}_PREFIX"] = mapped + prefix.prefixlen
    return _attributes(values)


def pack_address(address: Address) -> bytes:
    """Return an address as the kernel tap has it: an IPv4 one mapped into IPv6."""
    return MAPPED + address.packed if address.version == 4 else address.packed


def pack_customization(one: Customization, code: str) -> dict[str, Any]:
    """Return the attributes of a customization that runs the kernel module `code`."""
    flags = (
        FLAG_SEND * one.send
        | FLAG_RECEIVE * one.receive
        | FLAG_INACTIVE * (not one.active)
        | FLAG_DEPRECATED * one.deprecated
    )
    values = {
        "L45_C_ID": bytes.fromhex(one.id),
        "L45_C_CODE": code,
        "L45_C_MATCH": pack_match(one.match),
        "L45_C_PRIORITY": one.priority,
        "L45_C_FLAGS": flags,
        "L45_C_PARAMETERS": one.parameters or None,
        "L45_C_EPOCH": one.epoch,
        "L45_C_TOKEN": one.token or None,
        "L45_C_KEY": one.key or None,
    }
    return _attributes(values)


def _attributes(values: dict[str, Any]) -> dict[str, Any]:
    return {"attrs": [pair for pair in values.items() if pair[1] is not None]}


def unpack_code(said: nla) -> Code:
    """Return what an L45_A_CODE says."""
    return Code(
        name=_text(said.get_attr("L45_CODE_NAME")),
        module=_text(said.get_attr("L45_CODE_MODULE")),
        build_id=said.get_attr("L45_CODE_BUILD_ID") or b"",
        users=said.get_attr("L45_CODE_USERS") or 0,
    )


def unpack_customization(said: nla) -> InForce:
    """Return what an L45_A_CUSTOMIZATION says."""
    return InForce(
        **_unpack_attached(said),
        code=_text(said.get_attr("L45_C_CODE")),
        module=_text(said.get_attr("L45_C_MODULE")),
        flows=said.get_attr("L45_C_FLOWS") or 0,
    )


def _unpack_attached(said: nla) -> dict[str, Any]:
    counted = said.get_attr("L45_C_COUNTERS")
    names = {name: f"L45_N_{name.upper()}" for name in Counters.model_fields}
    counts = {name: counted.get_attr(names[name]) or 0 for name in names} if counted else {}
    return {
        "id": (said.get_attr("L45_C_ID") or b"").hex(),
        "priority": said.get_attr("L45_C_PRIORITY") or 0,
        "flags": said.get_attr("L45_C_FLAGS") or 0,
        "counters": Counters(**counts),
    }


def unpack_flow(said: nla) -> FlowRecord:
    """Return what an L45_A_FLOW says."""

    def number(name: str) -> int:
        return int(said.get_attr(f"L45_F_{name}") or 0)

    all_attached = said.get_attr("L45_F_ATTACHED")
    each = all_attached.get_attrs("L45_F_CUSTOMIZATION") if all_attached else ()
    transports = {value: name for name, value in PROTOCOLS.items()}
    executable = said.get_attr("L45_F_EXECUTABLE")
    return FlowRecord(
        number=number("NUMBER"),
        transport=transports.get(number("PROTOCOL"), "unknown"),
        local=_address(said.get_attr("L45_F_LOCAL")),
        local_port=number("LOCAL_PORT"),
        remote=_address(said.get_attr("L45_F_REMOTE")),
        remote_port=number("REMOTE_PORT"),
        pid=number("PID"),
        tgid=number("TGID"),
        uid=number("UID"),
        thread=_text(said.get_attr("L45_F_THREAD")),
        process=_text(said.get_attr("L45_F_PROCESS")),
        executable=None if executable is None else _text(executable),
        opened=number("OPENED"),
        sent=number("SENT"),
        received=number("RECEIVED"),
        send_state=_word(SEND_STATES, number("TX_STATE")),
        receive_state=_word(RECEIVE_STATES, number("RX_STATE")),
        send_changes=number("TX_CHANGES"),
        receive_changes=number("RX_CHANGES"),
        send_id=_id(said.get_attr("L45_F_TX_ID")),
        receive_id=_id(said.get_attr("L45_F_RX_ID")),
        fault=_word(FAULTS, number("FAULT")),
        attached=tuple(Attached(**_unpack_attached(one)) for one in each),
    )


def _seconds(nanoseconds: int) -> float | None:
    return nanoseconds / 1e9 if nanoseconds else None


def _text(said: str | bytes | None) -> str:
    """Return text that the kernel said; a process may call itself what is not UTF-8."""
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""


def _id(said: bytes | None) -> str | None:
    return None if said is None else said.hex()


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if number < len(words) else f"unknown ({number})"


def _address(said: bytes | None) -> Address:
    address = IPv6Address(said or bytes(16))
    return address.ipv4_mapped or address
