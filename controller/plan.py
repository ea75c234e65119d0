"""From an intent and facts about hosts to customizations; pure logic, no clock and no I/O.

Which hosts are meant stands in `controller.endpoints`, which tap runs the code in
`controller.platforms`. A plan is made when the intent is applied, and again when hosts come and
go: `controller.plan_checks` tells what is new in it then, and whether there is room for it.
Whether two plans get on stands in `controller.deconflict`.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from ipaddress import ip_network

from controller.endpoints import (
    ServerPlace,
    address_of,
    facts_of,
    families,
    family,
    members,
    server_place,
)
from controller.errors import Invalid
from controller.facts import HostFacts, Platform, Side
from controller.intent import Client, Endpoint, Intent, Server
from controller.platforms import Lacking, NoTap, choose
from controller.policy import Policy, endpoint_breach
from controller.switch_link import Mirror
from wire.manifest import Manifest, ManifestError, Role, pack_parameters
from wire.match import Match, Prefix
from wire.messages import KEY_SIZE, TOKEN_SIZE, Target

__all__ = [
    "HostFacts", "Plan", "Planned", "Platform", "Side", "Skipped", "make_plan",
]  # fmt: skip


AWAY = "its agent is not connected; it joins once it is"
"""Why a host is skipped that is not meant by its name."""


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
class Skipped:
    """A host that an intent means and leaves out."""

    host: str
    side: Side
    reason: str


@dataclass(frozen=True)
class Plan:
    """All that an intent makes."""

    customizations: tuple[Planned, ...]
    mirrors: tuple[Mirror, ...]
    skipped: tuple[Skipped, ...] = ()


def make_plan(
    intent: Intent,
    manifest: Manifest,
    hosts: Mapping[str, HostFacts],
    uid: uuid.UUID,
    *,
    epoch: int = 0,
    lacking: Lacking = lambda _: None,
    random: Callable[[int], bytes] = secrets.token_bytes,
    policy: Policy = Policy(),  # noqa: B008 - it cannot be changed
    running: bool = False,
) -> Plan:
    """Return the plan of `intent` for these hosts; the servers stand before the clients.

    `uid` names this deployment: identifiers of customizations are derived from it, so they are
    the same each time, and an intent that is applied anew gets new ones. `epoch` is its number
    among the deployments of a module for streams; `lacking` says why nothing can be compiled for
    a platform. Of an intent that is `running` a host that cannot take part is skipped whatever
    the intent says, and it may be that nobody is left. Raises Invalid.
    """
    planner = _Planner(intent, manifest, hosts, lacking, policy, running=running)
    servers = planner.servers()
    sockets = [one for _, share in servers for one in share]
    places = [place for place, _ in servers]
    sockets += planner.client_sockets(places)
    if not running:
        planner.check_anybody(sockets)
    streams = manifest.transport == "tcp"
    token = random(TOKEN_SIZE) if streams else b""
    customizations = tuple(
        Planned(
            id=uuid.uuid5(uid, f"{one.side} {one.host} {_in_json(one.match)}").hex,
            intent=intent.name,
            host=one.host,
            side=one.side,
            module=manifest.name,
            platform=one.platform,
            match=one.match,
            priority=intent.priority,
            parameters=planner.parameters,
            receives=one.role.receive,
            sends=one.role.send,
            epoch=epoch if streams else 0,
            token=token,
            key=random(KEY_SIZE),
        )
        for one in dict.fromkeys(sockets)
    )
    return Plan(customizations, planner.mirrors(places), tuple(dict.fromkeys(planner.skipped)))


@lru_cache(maxsize=1024)
def _in_json(match: Match) -> str:
    """Return a match as text; most hosts of an intent have the same one."""
    return match.model_dump_json()


def roles(intent: Intent, manifest: Manifest) -> dict[Side, Role]:
    """Return what the module does on each side; raises Invalid where it cannot be swapped."""
    if not intent.swap_roles:
        return {"client": manifest.client, "server": manifest.server}
    if not manifest.swappable:
        raise Invalid(
            f"module {manifest.name} does not say that its sides can be swapped (`swappable` in "
            "its manifest): leave `swap_roles` out"
        )
    return {"client": manifest.server, "server": manifest.client}


@dataclass(frozen=True)
class _Sockets:
    """Which sockets of a host are meant, and what runs for them there."""

    side: Side
    host: str
    match: Match
    platform: Platform
    role: Role


class _Planner:
    """One intent being planned; what is left out on the way is in `skipped`."""

    def __init__(
        self,
        intent: Intent,
        manifest: Manifest,
        hosts: Mapping[str, HostFacts],
        lacking: Lacking,
        policy: Policy,
        *,
        running: bool,
    ) -> None:
        self.skipped: list[Skipped] = []
        self._intent = intent
        self._manifest = manifest
        self._hosts = hosts
        self._lacking = lacking
        self._policy = policy
        self._skips = running or intent.no_tap == "skip"
        self._running = running
        self._matches: dict[tuple[int, frozenset[int]], list[Match]] = {}
        self._roles = roles(intent, manifest)
        port = intent.port or manifest.match.server_port
        if port is None:
            raise Invalid(
                f"module {manifest.name} has no port of its own: the intent must say `port`"
            )
        self._port = port
        try:
            self.parameters = pack_parameters(manifest, intent.parameters)
        except ManifestError as error:
            raise Invalid(str(error)) from error
        self._check_plain()

    def servers(self) -> list[tuple[ServerPlace, list[_Sockets]]]:
        """Return the servers that can take part, each with what it gets."""
        found = []
        for server in self._intent.servers:
            for host in self._allowed("server", server):
                place = self._place(server, host)
                share = self._sockets("server", host, self._server_matches(server))
                if place is not None and share is not None:
                    found.append((place, share))
        return found

    def _place(self, server: Server, host: HostFacts) -> ServerPlace | None:
        """Return where a server is; one that is not named, and nowhere, is skipped."""
        try:
            return server_place(server, host)
        except Invalid as reason:
            if server.host is not None:
                raise
            self.skipped.append(Skipped(host.name, "server", str(reason)))
            return None

    def client_sockets(self, servers: Sequence[ServerPlace]) -> list[_Sockets]:
        """Return what clients get: for each server's address one, if they have the family."""
        addresses = sorted({address for place in servers for address in place.addresses})
        found: list[_Sockets] = []
        for client in self._intent.clients:
            matches = partial(self._client_matches, client, addresses)
            for host in self._allowed("client", client):
                found += self._sockets("client", host, matches(families(host.addresses))) or []
        return found

    def check_anybody(self, sockets: Sequence[_Sockets]) -> None:
        """Raise Invalid where a side has nobody, or nobody would do anything."""
        for side, ends in self._sides():
            acts = self._roles[side].send or self._roles[side].receive
            there = {one.host for one in sockets if one.side == side}
            if any(end.plain for end in ends) or there or not acts:
                continue
            where = ", ".join(end.where for end in ends)
            reasons = "; ".join(dict.fromkeys(s.reason for s in self.skipped if s.side == side))
            raise Invalid(
                f"there is no {side} for intent {self._intent.name!r}: "
                + (reasons or f"no host is {where}; `nco host list` shows labels and addresses")
            )
        if not sockets:
            raise Invalid(f"module {self._manifest.name} does nothing on the sides that have hosts")

    def mirrors(self, servers: Iterable[ServerPlace]) -> tuple[Mirror, ...]:
        """Return what switches are asked to copy."""
        if self._intent.middlebox is None:
            return ()
        if self._intent.port_last is not None:
            raise Invalid(
                "switches copy single ports: leave `port_last` or the middlebox out of the intent"
            )
        box = self._intent.middlebox
        middlebox = address_of(facts_of(self._hosts, box.host), box.address)
        known_as = {
            address: _seen_as(place.host, address)
            for place in servers
            for address in place.addresses
        }
        if family(middlebox) != 4:
            raise Invalid(f"switches find a middlebox by an IPv4 address: {middlebox} is none")
        return tuple(
            Mirror(
                id=self._intent.name if len(known_as) == 1 else f"{self._intent.name}/{address}",
                transport=self._manifest.transport,
                server=address,
                known_as=known_as[address],
                port=self._port,
                middlebox=middlebox,
            )
            for address in sorted(known_as)
        )

    def _sides(self) -> Iterator[tuple[Side, Sequence[Endpoint]]]:
        yield "server", self._intent.servers
        yield "client", self._intent.clients

    def _allowed(self, side: Side, end: Endpoint) -> Iterator[HostFacts]:
        """Yield an endpoint's hosts that the network's policy lets take part."""
        for host in members(end, self._hosts):
            if end.host is None and not host.present:
                self.skipped.append(Skipped(host.name, side, AWAY))
                continue
            rules = self._policy.endpoints
            breach = endpoint_breach(rules, host.name, host.labels, host.addresses)
            if breach is None:
                yield host
            elif end.host is None or self._running:
                self.skipped.append(Skipped(host.name, side, breach))
            else:
                raise Invalid(f"host {host.name}: {breach}")

    def _sockets(
        self, side: Side, host: HostFacts, matches: Iterable[Match]
    ) -> list[_Sockets] | None:
        """Return what a host gets for these matches, or None where it is skipped."""
        role = self._roles[side]
        if not role.send and not role.receive:
            return []
        try:
            return [
                _Sockets(
                    side, host.name, match, choose(self._manifest, match, host, self._lacking), role
                )
                for match in matches
            ]
        except NoTap as reason:
            if not self._skips:
                raise
            self.skipped.append(Skipped(host.name, side, str(reason)))
            return None

    def _server_matches(self, server: Server) -> list[Match]:
        """Return which sockets of a server's host are meant."""
        clients = self._intent.clients
        peers: list[Prefix | None] = [server.peers]
        if server.peers is None and all(client.plain for client in clients):
            peers = [client.prefix for client in clients]
        return [
            Match(
                transport=self._manifest.transport,
                process=server.process or self._manifest.match.server_process,
                thread=server.thread,
                executable=server.executable,
                uid=server.uid,
                local_port=self._port,
                local_port_last=self._intent.port_last,
                remote=peer,
            )
            for peer in peers
        ]

    def _client_matches(
        self, client: Client, addresses: Sequence[str], spoken: frozenset[int]
    ) -> list[Match]:
        """Return which sockets of a client's host are meant: those that talk to the servers.

        Many hosts are alike, so what was made for one is kept for the next.
        """
        key = (self._intent.clients.index(client), spoken)
        if key not in self._matches:
            known = spoken & families(addresses)
            remotes = [ip_network(a) for a in addresses if not known or family(a) in known]
            plain = [s.prefix for s in self._intent.servers if s.plain and s.prefix]
            self._matches[key] = [
                self._client_match(client, remote) for remote in [*remotes, *plain]
            ]
        return self._matches[key]

    def _client_match(self, client: Client, remote: Prefix) -> Match:
        """Return which sockets of a client's host are meant: those that talk to one server."""
        return Match(
            transport=self._manifest.transport,
            process=client.process or self._manifest.match.client_process,
            thread=client.thread,
            executable=client.executable,
            uid=client.uid,
            local=client.local,
            local_port=client.local_port,
            local_port_last=client.local_port_last,
            remote=remote,
            remote_port=self._port,
            remote_port_last=self._intent.port_last,
        )

    def _check_plain(self) -> None:
        """Refuse plain peers that would be sent what nobody undoes there.

        The answering side customizes only towards a peer that it has heard customized, so plain
        clients are safe wherever clients would send a wire form themselves.
        """
        client, server = self._roles["client"], self._roles["server"]
        unsafe: list[tuple[Sequence[Endpoint], bool]] = [
            (self._intent.servers, client.send),
            (self._intent.clients, server.send and not client.send),
        ]
        for ends, is_sent in unsafe:
            for end in ends:
                if end.plain and is_sent and self._manifest.wire is not None:
                    raise Invalid(
                        f"{end.prefix} is plain, and module {self._manifest.name} would send its "
                        "wire form there, where no agent restores it: leave `plain` out"
                    )


def _seen_as(host: HostFacts, address: str) -> str | None:
    """Return by which address switches find where a server is, None where by its own."""
    if family(address) == 4:
        return None
    known = next((other for other in host.addresses if family(other) == 4), None)
    if known is None:
        raise Invalid(
            f"switches find hosts by their IPv4 addresses, and host {host.name} has none: leave "
            "the middlebox out of the intent"
        )
    return known
