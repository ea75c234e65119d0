"""From an intent and facts about hosts to customizations; pure logic, no clock and no I/O.

A plan is made once, when the intent is applied, and kept: a host whose address changes later does
not silently change what an intent means.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from controller.errors import Conflict, Invalid
from controller.intent import Client, Intent, Server
from controller.switch_link import MAX_MIRRORS, Mirror
from wire.manifest import Manifest, ManifestError, pack_parameters
from wire.match import Match, Port
from wire.messages import MAX_CUSTOMIZATIONS, Target

BUILDABLE: tuple[Target, ...] = ("bpf",)
"""Targets that the NCO can compile for, the preferred first."""

Side = Literal["client", "server"]


@dataclass(frozen=True)
class HostFacts:
    """What the planner needs to know of a host, as its agent said it last."""

    name: str
    addresses: tuple[str, ...]
    targets: frozenset[Target]
    tap_error: str | None = None
    """Why no tap can run there."""


@dataclass(frozen=True)
class Planned:
    """One customization that an intent makes on one host, whatever its phase is."""

    id: str
    intent: str
    host: str
    side: Side
    module: str
    target: Target
    match: Match
    priority: int
    parameters: bytes
    receives: bool
    """Whether it understands the wire form once it is wholly on."""
    sends: bool
    """Whether it produces the wire form once it is wholly on."""
    digest: str | None = None
    """The artifact, once it is built."""


@dataclass(frozen=True)
class Plan:
    """All that an intent makes."""

    customizations: tuple[Planned, ...]
    mirrors: tuple[Mirror, ...]


def make_plan(
    intent: Intent, manifest: Manifest, hosts: Mapping[str, HostFacts], uid: uuid.UUID
) -> Plan:
    """Return the plan of `intent`; the servers stand before the clients.

    `uid` names this deployment: identifiers of customizations are derived from it, so they are
    the same each time, and an intent that is applied anew gets new ones. Raises Invalid.
    """
    port = intent.port or manifest.match.server_port
    if port is None:
        raise Invalid(f"module {manifest.name} has no port of its own: the intent must say `port`")
    try:
        parameters = pack_parameters(manifest, intent.parameters)
    except ManifestError as error:
        raise Invalid(str(error)) from error
    addresses = [_address(_facts(hosts, server.host), server.address) for server in intent.servers]
    matches: list[tuple[Side, str, Match]] = [
        ("server", server.host, server_match(server, manifest, port)) for server in intent.servers
    ]
    matches += [
        ("client", client.host, client_match(client, manifest, address, port))
        for client in intent.clients
        for address in sorted(set(addresses))
    ]
    customizations = [
        _planned(
            intent,
            manifest,
            _facts(hosts, host),
            side=side,
            match=match,
            parameters=parameters,
            uid=uid,
        )
        for side, host, match in matches
    ]
    return Plan(
        customizations=tuple(item for item in customizations if item.receives or item.sends),
        mirrors=_mirrors(intent, manifest, hosts, addresses, port),
    )


def _planned(
    intent: Intent,
    manifest: Manifest,
    facts: HostFacts,
    *,
    side: Side,
    match: Match,
    parameters: bytes,
    uid: uuid.UUID,
) -> Planned:
    role = manifest.client if side == "client" else manifest.server
    return Planned(
        id=uuid.uuid5(uid, f"{side} {facts.name} {match.model_dump_json()}").hex,
        intent=intent.name,
        host=facts.name,
        side=side,
        module=manifest.name,
        target=_target(manifest, facts),
        match=match,
        priority=intent.priority,
        parameters=parameters,
        receives=role.receive,
        sends=role.send,
    )


def server_match(server: Server, manifest: Manifest, port: Port) -> Match:
    """Return which sockets of a server's host are meant."""
    return Match(
        transport=manifest.transport,
        process=server.process or manifest.match.server_process,
        local_port=port,
    )


def client_match(client: Client, manifest: Manifest, address: str, port: Port) -> Match:
    """Return which sockets of a client's host are meant: those that talk to one server."""
    return Match(
        transport=manifest.transport,
        process=client.process or manifest.match.client_process,
        thread=client.thread,
        remote=IPv4Network(address),
        remote_port=port,
    )


def check_room(plan: Plan, others: Sequence[Planned]) -> None:
    """Refuse a plan that a host has no room for, or that no order separates from another intent.

    `others` are the customizations of all other intents. Raises Conflict, naming both intents.
    """
    used = Counter(item.host for item in (*plan.customizations, *others))
    for item in plan.customizations:
        if used[item.host] > MAX_CUSTOMIZATIONS:
            raise Conflict(
                f"host {item.host} would have {used[item.host]} customizations, at most "
                f"{MAX_CUSTOMIZATIONS} are possible: revoke one there or name fewer endpoints"
            )
        for other in others:
            if other.host == item.host and _unordered(item, other):
                raise Conflict(
                    f"intents {item.intent!r} and {other.intent!r} would both act on one flow of "
                    f"host {item.host}: revoke one, let them match different processes, or say in "
                    "the file of one of them which acts first (`priority = 50`; default 100)"
                )


def check_mirrors(plan: Plan, others: int) -> None:
    """Refuse a plan with more mirrors, besides `others`, than switches can be asked for."""
    total = len(plan.mirrors) + others
    if plan.mirrors and total > MAX_MIRRORS:
        raise Conflict(
            f"all intents together would have {total} mirrors, at most {MAX_MIRRORS} are "
            "possible: revoke one that has a middlebox, or name fewer servers"
        )


def _unordered(one: Planned, other: Planned) -> bool:
    return one.priority == other.priority and overlap(one.match, other.match)


def overlap(one: Match, other: Match) -> bool:
    """Whether one socket could be matched by both."""
    if one.transport != other.transport:
        return False
    exact = ("thread", "process", "local_port", "remote_port")
    pairs = [(getattr(one, name), getattr(other, name)) for name in exact]
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return False
    prefixes = ((one.local, other.local), (one.remote, other.remote))
    return all(a is None or b is None or a.overlaps(b) for a, b in prefixes)


def _facts(hosts: Mapping[str, HostFacts], name: str) -> HostFacts:
    if name not in hosts:
        raise Invalid(
            f"there is no host {name!r}; hosts whose agent has connected: "
            f"{', '.join(sorted(hosts)) or 'none yet'}"
        )
    return hosts[name]


def _address(facts: HostFacts, wanted: IPv4Address | None) -> str:
    have = ", ".join(facts.addresses) or "none"
    if wanted is not None:
        if str(wanted) not in facts.addresses:
            raise Invalid(f"host {facts.name} does not have address {wanted}; it has: {have}")
        return str(wanted)
    if len(facts.addresses) != 1:
        raise Invalid(f"host {facts.name} has no single address ({have}): say which by `address`")
    return facts.addresses[0]


def _target(manifest: Manifest, facts: HostFacts) -> Target:
    for target in BUILDABLE:
        if target in manifest.targets and target in facts.targets:
            return target
    buildable = set(manifest.targets) & set(BUILDABLE)
    if not buildable:
        raise Invalid(
            f"module {manifest.name} cannot be deployed: its targets are "
            f"{_listed(manifest.targets)}, hosts run {_listed(BUILDABLE)}"
        )
    raise Invalid(
        f"module {manifest.name} cannot run on host {facts.name}: it can be built for "
        f"{_listed(buildable)}, the host runs "
        f"{_listed(facts.targets)}" + (f" ({facts.tap_error})" if facts.tap_error else "")
    )


def _listed(targets: Iterable[str]) -> str:
    return ", ".join(sorted(targets)) or "nothing"


def _mirrors(
    intent: Intent,
    manifest: Manifest,
    hosts: Mapping[str, HostFacts],
    addresses: Sequence[str],
    port: Port,
) -> tuple[Mirror, ...]:
    if intent.middlebox is None:
        return ()
    box = _facts(hosts, intent.middlebox.host)
    distinct = sorted(set(addresses))
    return tuple(
        Mirror(
            id=intent.name if len(distinct) == 1 else f"{intent.name}/{address}",
            transport=manifest.transport,
            server=address,
            port=port,
            middlebox=_address(box, intent.middlebox.address),
        )
        for address in distinct
    )
