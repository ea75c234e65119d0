"""Whether two intents get on: who acts first on a flow, and whose wire form a message has.

Two customizations get on if no socket can have both. If one can, the intents must have an order
(`priority`), and a message must tell whose it is: the constant fields of two wire forms must differ
somewhere, and so must signature and epoch of two streams. Two that only receive, and do it alike,
always get on: so two intents can share a server. Deployments of one intent that follow each other
are in order by themselves.

What is refused is refused with an example: a flow that both would have.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import PurePosixPath

from controller.endpoints import socket_text
from controller.errors import Conflict
from controller.plan import Plan, Planned
from wire.manifest import INTEGER_BYTES, Manifest
from wire.match import COMM_MAX, Match, Transport

ANY_ADDRESS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
"""Local and remote address of an example where all will do (RFC 5737, RFC 3849)."""

ANY_PORT = {"local": 40000, "remote": 50000}
ANY_NAME = "any"
ANY_UID = 1000


@dataclass(frozen=True)
class Example:
    """A flow as a host sees it, and who has it."""

    transport: Transport
    local: str
    local_port: int
    remote: str
    remote_port: int
    thread: str
    process: str
    executable: str
    uid: int

    def __str__(self) -> str:
        return (
            f"{self.transport} {socket_text(self.local, self.local_port)} -> "
            f"{socket_text(self.remote, self.remote_port)} of process {self.process} (thread "
            f"{self.thread}, {self.executable}, uid {self.uid})"
        )


def check_flows(
    plan: Plan,
    others: Iterable[Planned],
    manifest_of: Callable[[str], Manifest],
    addresses: Mapping[str, tuple[str, ...]],
) -> None:
    """Refuse a plan that does not get on with the customizations of other intents.

    `addresses` are those of each host, for the example. Raises Conflict with both names and it.
    """
    manifest_of = functools.cache(manifest_of)
    there: dict[str, list[Planned]] = defaultdict(list)
    for other in others:
        there[other.host].append(other)
    for item in plan.customizations:
        for other in there.get(item.host, ()):
            if item.intent == other.intent:
                continue
            _check(item, other, manifest_of, addresses.get(item.host, ()))


def _check(
    item: Planned,
    other: Planned,
    manifest_of: Callable[[str], Manifest],
    addresses: tuple[str, ...],
) -> None:
    unordered = item.priority == other.priority
    if _equivalent(item, other) or not (unordered or _confusable(item, other, manifest_of)):
        return
    flow = example(item.match, other.match, addresses)
    if flow is None:
        return
    if unordered:
        raise Conflict(
            f"intents {item.intent!r} and {other.intent!r} would both act on one flow of host "
            f"{item.host}: revoke one, let them match different processes, or say which acts first "
            "(`--priority 50`, in a file `priority = 50`; default 100). Both would have, for "
            f"example, {flow}"
        )
    raise Conflict(
        f"host {item.host} could not tell whether a message is of {item.module} of "
        f"{item.intent!r} or of {other.module} of {other.intent!r}: their wire forms begin alike. "
        "Revoke one, or let them match different flows (by process, port, or the servers' "
        f"`peers`). Both would have, for example, {flow}"
    )


def _equivalent(one: Planned, other: Planned) -> bool:
    """Whether it does not matter which of the two a message is given to.

    A server that understands two intents' clients has two that only receive, and alike.
    """
    return not (one.sends or other.sends) and (
        one.module,
        one.parameters,
        one.epoch,
        one.token,
    ) == (other.module, other.parameters, other.epoch, other.token)


def example(one: Match, other: Match, addresses: Iterable[str] = ()) -> Example | None:
    """Return a flow that both match, or None where there is none.

    Where the matches leave a choice, the local address is one of `addresses`.
    """
    if one.transport != other.transport:
        return None
    names = {name: _agreed(one, other, name) for name in ("thread", "process", "executable", "uid")}
    local_port = _port(one.local_ports, other.local_ports, ANY_PORT["local"])
    remote_port = _port(one.remote_ports, other.remote_ports, ANY_PORT["remote"])
    pair = _addresses(one, other, tuple(addresses))
    if _DIFFER in names.values() or local_port is None or remote_port is None or pair is None:
        return None
    executable = str(names["executable"] or "")
    process = str(names["process"] or PurePosixPath(executable).name[:COMM_MAX] or ANY_NAME)
    return Example(
        transport=one.transport,
        local=pair[0],
        local_port=local_port,
        remote=pair[1],
        remote_port=remote_port,
        thread=str(names["thread"] or process),
        process=process,
        executable=executable or f"/usr/bin/{process}",
        uid=ANY_UID if names["uid"] is None else int(str(names["uid"])),
    )


def overlap(one: Match, other: Match) -> bool:
    """Whether one socket could be matched by both."""
    return example(one, other) is not None


_DIFFER = object()
"""Two matches want different values."""


def _agreed(one: Match, other: Match, name: str) -> object:
    """Return the value that both want, None where none of them cares."""
    mine, theirs = getattr(one, name), getattr(other, name)
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine if mine == theirs else _DIFFER


def _port(one: range, other: range, preferred: int) -> int | None:
    both = range(max(one.start, other.start, 1), min(one.stop, other.stop))
    if not both:
        return None
    return preferred if preferred in both else both.start


def _addresses(one: Match, other: Match, own: tuple[str, ...]) -> tuple[str, str] | None:
    """Return a local and a remote address of one family that both matches take."""
    for version, (any_local, any_remote) in ANY_ADDRESS.items():
        locals_ = _meet(version, one.local, other.local)
        remotes = _meet(version, one.remote, other.remote)
        if locals_ is None or remotes is None:
            continue
        mine = [a for a in own if ip_address(a).version == version and _within(a, locals_)]
        return (
            mine[0] if mine else _member(locals_, any_local),
            _member(remotes, any_remote),
        )
    return None


Networks = list[IPv4Network | IPv6Network]


def _meet(version: int, *prefixes: IPv4Network | IPv6Network | None) -> Networks | None:
    """Return prefixes that an address must be in, or None where no address of a version is."""
    given = [prefix for prefix in prefixes if prefix is not None]
    if any(prefix.version != version for prefix in given):
        return None
    if len(given) == 2 and not given[0].overlaps(given[1]):
        return None
    return given


def _within(address: str, prefixes: Networks) -> bool:
    return all(ip_address(address) in prefix for prefix in prefixes)


def _member(prefixes: Networks, anyone: str) -> str:
    """Return an address in all of these prefixes, of which one is in the other."""
    if not prefixes:
        return anyone
    narrow = max(prefixes, key=lambda prefix: prefix.prefixlen)
    return str(narrow[1] if narrow.num_addresses > 2 else narrow[0])


def _confusable(one: Planned, other: Planned, manifest_of: Callable[[str], Manifest]) -> bool:
    """Whether a message of one could be taken for one of the other."""
    mine, theirs = manifest_of(one.module), manifest_of(other.module)
    if mine.wire is None or theirs.wire is None:
        return False
    if mine.transport == "tcp":
        return (mine.wire.signature, one.epoch) == (theirs.wire.signature, other.epoch)
    ours, others = constant_bytes(mine), constant_bytes(theirs)
    return all(ours[place] == others[place] for place in ours.keys() & others.keys())


def constant_bytes(manifest: Manifest) -> dict[int, int]:
    """Return the bytes that stand in every datagram of a module at a fixed place."""
    found: dict[int, int] = {}
    offset = 0
    for field in manifest.wire.fields if manifest.wire else ():
        if field.fixed_size is None:
            break
        if field.value is not None:
            content = field.value.to_bytes(INTEGER_BYTES[field.type], "big")
            found |= dict(enumerate(content, offset))
        offset += field.fixed_size
    return found
