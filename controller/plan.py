"""From an intent and facts about hosts to customizations; pure logic, no clock and no I/O.

A plan is made once, when the intent is applied, and kept: a host whose address changes later does
not silently change what an intent means.
"""

from __future__ import annotations

import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Literal

from controller.errors import Conflict, Invalid
from controller.intent import Client, Intent, Server
from controller.switch_link import MAX_MIRRORS, Mirror
from wire.manifest import Manifest, ManifestError, pack_parameters
from wire.match import Match, Port, Transport
from wire.messages import KEY_SIZE, MAX_CUSTOMIZATIONS, TOKEN_SIZE, Target

BUILDABLE: tuple[Target, ...] = ("bpf", "kmod")
"""Targets that the NCO can compile for."""

Side = Literal["client", "server"]


@dataclass(frozen=True)
class HostFacts:
    """What the planner needs to know of a host, as its agent said it last."""

    name: str
    addresses: tuple[str, ...]
    targets: tuple[Target, ...]
    """What its taps run, the preferred first."""
    tap_error: str | None = None
    """Why other taps cannot run there."""
    kernel: str = ""
    """Its kernel's release."""
    settled: Mapping[Transport, Target] = field(default_factory=dict)
    """Which tap has its sockets of a transport already: two on one socket cannot be."""


@dataclass(frozen=True, order=True)
class Platform:
    """What code is compiled for."""

    target: Target
    kernel: str | None = None
    """The kernel release, for `kmod`; None where one artifact serves all."""

    def __str__(self) -> str:
        return f"{self.target} {self.kernel}" if self.kernel else self.target


@dataclass(frozen=True)
class Planned:
    """One customization that an intent makes on one host, whatever its phase is."""

    id: str
    intent: str
    host: str
    side: Side
    module: str
    platform: Platform
    match: Match
    priority: int
    parameters: bytes
    receives: bool
    """Whether it understands the wire form once it is wholly on."""
    sends: bool
    """Whether it produces the wire form once it is wholly on."""
    epoch: int = 0
    """Of streams: tells deployments of one module apart on a flow."""
    token: bytes = field(default=b"", repr=False)
    """Of streams: the same on both sides of a deployment, and a secret."""
    key: bytes = field(default=b"", repr=False)
    """For challenges; a secret of this customization's."""
    digest: str | None = None
    """The artifact, once it is built."""

    @property
    def target(self) -> Target:
        """Which tap runs it."""
        return self.platform.target


@dataclass(frozen=True)
class Plan:
    """All that an intent makes."""

    customizations: tuple[Planned, ...]
    mirrors: tuple[Mirror, ...]


def make_plan(
    intent: Intent,
    manifest: Manifest,
    hosts: Mapping[str, HostFacts],
    uid: uuid.UUID,
    *,
    epoch: int = 0,
    lacking: Callable[[Platform], str | None] = lambda _: None,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Plan:
    """Return the plan of `intent`; the servers stand before the clients.

    `uid` names this deployment: identifiers of customizations are derived from it, so they are
    the same each time, and an intent that is applied anew gets new ones. `epoch` is its number
    among the deployments of a module for streams; `lacking` says why nothing can be compiled for
    a platform. Raises Invalid.
    """
    port = intent.port or manifest.match.server_port
    if port is None:
        raise Invalid(f"module {manifest.name} has no port of its own: the intent must say `port`")
    try:
        parameters = pack_parameters(manifest, intent.parameters)
    except ManifestError as error:
        raise Invalid(str(error)) from error
    addresses = [_address(_facts(hosts, server.host), server.address) for server in intent.servers]
    streams = manifest.transport == "tcp"
    common = Planned(
        id="",
        intent=intent.name,
        host="",
        side="server",
        module=manifest.name,
        platform=Platform("user"),
        match=Match(transport=manifest.transport),
        priority=intent.priority,
        parameters=parameters,
        receives=False,
        sends=False,
        epoch=epoch if streams else 0,
        token=random(TOKEN_SIZE) if streams else b"",
    )
    customizations = [
        replace(
            common,
            id=uuid.uuid5(uid, f"{side} {host} {match.model_dump_json()}").hex,
            host=host,
            side=side,
            platform=_platform(manifest, match, _facts(hosts, host), lacking),
            match=match,
            receives=manifest.client.receive if side == "client" else manifest.server.receive,
            sends=manifest.client.send if side == "client" else manifest.server.send,
            key=random(KEY_SIZE),
        )
        for side, host, match in _matches(intent, manifest, addresses, port)
    ]
    return Plan(
        customizations=tuple(item for item in customizations if item.receives or item.sends),
        mirrors=_mirrors(intent, manifest, hosts, addresses, port),
    )


def _matches(
    intent: Intent, manifest: Manifest, addresses: Sequence[str], port: Port
) -> list[tuple[Side, str, Match]]:
    """Return which sockets of which hosts are meant."""
    servers: list[tuple[Side, str, Match]] = [
        ("server", server.host, server_match(server, manifest, port)) for server in intent.servers
    ]
    return servers + [
        ("client", client.host, client_match(client, manifest, address, port))
        for client in intent.clients
        for address in sorted(set(addresses))
    ]


def server_match(server: Server, manifest: Manifest, port: Port) -> Match:
    """Return which sockets of a server's host are meant."""
    return Match(
        transport=manifest.transport,
        process=server.process or manifest.match.server_process,
        executable=server.executable,
        uid=server.uid,
        local_port=port,
    )


def client_match(client: Client, manifest: Manifest, address: str, port: Port) -> Match:
    """Return which sockets of a client's host are meant: those that talk to one server."""
    return Match(
        transport=manifest.transport,
        process=client.process or manifest.match.client_process,
        thread=client.thread,
        executable=client.executable,
        uid=client.uid,
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
    exact = ("thread", "process", "executable", "uid")
    pairs = [(getattr(one, name), getattr(other, name)) for name in exact]
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return False
    ports = ((one.local_ports, other.local_ports), (one.remote_ports, other.remote_ports))
    if any(not range(max(a.start, b.start), min(a.stop, b.stop)) for a, b in ports):
        return False
    prefixes = ((one.local, other.local), (one.remote, other.remote))
    return all(a is None or b is None or _meet(a, b) for a, b in prefixes)


def _meet(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.overlaps(other)
    return False


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


def _platform(
    manifest: Manifest,
    match: Match,
    facts: HostFacts,
    lacking: Callable[[Platform], str | None],
) -> Platform:
    """Return what a module is compiled for there: what the host prefers of what can be built."""
    settled = facts.settled.get(manifest.transport)
    reasons = []
    for target in facts.targets:
        if target in manifest.targets and target in BUILDABLE and settled in (None, target):
            platform = Platform(target, facts.kernel if target == "kmod" else None)
            beyond = match.beyond_bpf if target == "bpf" else None
            reason = f"the bpf tap has no {beyond}" if beyond else lacking(platform)
            if reason is None:
                return platform
            reasons.append(reason)
    if reasons:
        raise Invalid(f"module {manifest.name} on host {facts.name}: {'; '.join(reasons)}")
    buildable = set(manifest.targets) & set(BUILDABLE)
    if not buildable:
        raise Invalid(
            f"module {manifest.name} cannot be deployed: its targets are "
            f"{_listed(manifest.targets)}, hosts run {_listed(BUILDABLE)}"
        )
    if settled and buildable & set(facts.targets):
        raise Invalid(
            f"module {manifest.name} cannot run on host {facts.name} beside what is there: the "
            f"{settled} tap has its {manifest.transport} sockets, and the module can be built for "
            f"{_listed(buildable)}: revoke the others first"
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
