"""Which entries the switches should have, from what the service wants and the application knows.

Pure: no sockets, no clock, no Ryu. `plan` says what each switch should have, `diff` what is to be
written so that it has, `report` how far the switches are.

A mirror stands on the switch of its server: every packet of the service passes there, once. The
middlebox must be on the same switch. What enters from the middlebox's own port is never mirrored,
and a copy that it sends back is dropped, so that copies cannot go round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from controller.switch_link import Mirror, MirrorStatus, SeenHost, Steering, SteeringReport

COOKIE = 0x4C34_3500_0000_0000
"""Cookie of the entries that are planned here ("L45", then which kind)."""

COOKIE_MASK = 0xFFFF_FFFF_0000_0000

CONTROLLER_PORT = 0xFFFF_FFFD
FLOOD_PORT = 0xFFFF_FFFB

LLDP_TYPE = 0x88CC
LLDP_ADDRESS = "01:80:c2:00:00:0e"

IPV4 = 0x0800
ARP = 0x0806
IPV6 = 0x86DD
IP_PROTOCOL = {"tcp": 6, "udp": 17}


class Table(IntEnum):
    """The tables of docs/architecture.md."""

    STEERING = 0
    SOURCES = 1
    DESTINATIONS = 2


class Priority(IntEnum):
    """Which entry of the steering table wins."""

    CONTROL = 60000
    """The NCO's own channel: never steered nor mirrored."""
    DISCOVERY = 50000
    MIDDLEBOX = 41000
    """What the middlebox itself says."""
    RETURNED = 40000
    """A copy that comes back."""
    MIRROR = 30000
    MISS = 0


MatchValue = int | str | tuple[int | str, int | str]
Match = tuple[tuple[str, MatchValue], ...]
"""OXM fields by OpenFlow's names in alphabetical order; a pair is a value and its mask."""

EntryKey = tuple[int, int, Match]


@dataclass(frozen=True)
class Entry:
    """One flow entry; with neither outputs nor goto it drops."""

    table: int
    priority: int
    match: Match = ()
    outputs: tuple[int, ...] = ()
    goto: int | None = None
    foreign: bool = False
    """It has instructions or timeouts that are never written here; only read from a switch."""

    @property
    def key(self) -> EntryKey:
        """What tells an entry from the others of a switch."""
        return (self.table, self.priority, self.match)


@dataclass(frozen=True)
class Installed:
    """An entry as a switch reports it."""

    entry: Entry
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Place:
    """Where a mirror stands, or why it stands nowhere."""

    mirror: Mirror
    state: Literal["placed", "pending", "impossible"]
    reason: str = ""
    server: SeenHost | None = None
    middlebox: SeenHost | None = None


@dataclass
class Plan:
    """What every switch should have."""

    entries: dict[int, dict[EntryKey, Entry]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    awaited: set[Match] = field(default_factory=set)
    """Services whose hosts are not seen yet: what a switch still has of them stays."""
    generation: int | None = None
    """Of what the service wants; None until it has spoken: then nothing is taken away."""


@dataclass(frozen=True)
class Diff:
    """What is to be written to one switch."""

    adds: list[Entry]
    deletes: list[Entry]

    def __bool__(self) -> bool:
        return bool(self.adds or self.deletes)


def match(**fields: MatchValue) -> Match:
    """Return the fields as a match."""
    return tuple(sorted(fields.items()))


def plan(
    steering: Steering | None,
    hosts: Iterable[SeenHost],
    connected: Collection[int],
    forwarding: bool = True,
) -> Plan:
    """Return what each connected switch should have.

    `steering` is None until the service has spoken. `forwarding` is False where another
    application fills the tables after ours.
    """
    made = Plan(generation=steering.generation if steering else None)
    base = permanent_entries(forwarding)
    if steering and steering.control:
        base += control_entries(*steering.control)
    for dpid in connected:
        made.entries[dpid] = {entry.key: entry for entry in base}
    if steering:
        seen = {host.address: host for host in hosts}
        made.places = [_place(mirror, seen, connected) for mirror in steering.mirrors]
        _add_mirrors(made)
    return made


def permanent_entries(forwarding: bool = True) -> list[Entry]:
    """Return the entries that every switch has, whatever is steered.

    The controller sees every ARP packet, also of a host whose source is known to the switch: only
    so does it learn the address of one that spoke IPv6 first.
    """
    lldp = match(eth_type=LLDP_TYPE, eth_dst=LLDP_ADDRESS)
    to_controller = (CONTROLLER_PORT,)
    entries = [
        Entry(Table.STEERING, Priority.MISS, goto=Table.SOURCES),
        Entry(Table.STEERING, Priority.DISCOVERY, lldp, to_controller),
        Entry(
            Table.STEERING, Priority.DISCOVERY, match(eth_type=ARP), to_controller, Table.SOURCES
        ),
    ]
    if forwarding:
        entries += [
            Entry(Table.SOURCES, 0, outputs=to_controller, goto=Table.DESTINATIONS),
            Entry(Table.DESTINATIONS, 0, outputs=(FLOOD_PORT,)),
        ]
    return entries


def control_entries(address: str, port: int) -> list[Entry]:
    """Return the entries that keep the NCO's control channel out of all steering."""
    return [
        Entry(Table.STEERING, Priority.CONTROL, service, goto=Table.SOURCES)
        for service in service_matches("tcp", address, port)
    ]


def service_matches(transport: str, server: str, port: int) -> tuple[Match, Match]:
    """Return what tells a service's packets: to the server, and from it."""
    family, ethertype = ("ipv6", IPV6) if ":" in server else ("ipv4", IPV4)
    ip: dict[str, MatchValue] = {"eth_type": ethertype, "ip_proto": IP_PROTOCOL[transport]}
    there: dict[str, MatchValue] = {f"{family}_dst": server, f"{transport}_dst": port}
    back: dict[str, MatchValue] = {f"{family}_src": server, f"{transport}_src": port}
    return match(**ip, **there), match(**ip, **back)


def _place(mirror: Mirror, seen: Mapping[str, SeenHost], connected: Collection[int]) -> Place:
    server = seen.get(mirror.known_as or mirror.server)
    middlebox = seen.get(mirror.middlebox)
    if server is None:
        return Place(mirror, "pending", f"server {mirror.server} has not sent a packet yet")
    if middlebox is None:
        return Place(mirror, "pending", f"middlebox {mirror.middlebox} has not sent a packet yet")
    if server.dpid != middlebox.dpid:
        reason = (
            f"server {mirror.server} is on switch {server.dpid}, middlebox {mirror.middlebox} "
            f"on switch {middlebox.dpid}: a mirror needs both on one switch"
        )
        return Place(mirror, "impossible", reason)
    if server.port == middlebox.port:
        reason = (
            f"server {mirror.server} and middlebox {mirror.middlebox} share port {server.port} "
            f"of switch {server.dpid}: a middlebox needs a port of its own"
        )
        return Place(mirror, "impossible", reason)
    if server.dpid not in connected:
        return Place(mirror, "pending", f"switch {server.dpid} is not connected")
    return Place(mirror, "placed", server=server, middlebox=middlebox)


def _add_mirrors(made: Plan) -> None:
    """Add the entries of all placed mirrors; mirrors of one service share theirs."""
    copies: dict[tuple[int, Match], set[int]] = defaultdict(set)
    for place in made.places:
        services = service_matches(place.mirror.transport, place.mirror.server, place.mirror.port)
        if place.state == "pending":
            made.awaited.update(services)
        if place.middlebox is None:
            continue
        for service in services:
            copies[place.middlebox.dpid, service].add(place.middlebox.port)
        _put(made, place.middlebox.dpid, _middlebox_entry(place.middlebox))
    for (dpid, service), ports in copies.items():
        outputs = tuple(sorted(ports))
        mirror = Entry(Table.STEERING, Priority.MIRROR, service, outputs, Table.SOURCES)
        _put(made, dpid, mirror)
        for port in outputs:
            returned = match(**dict(service), in_port=port)
            _put(made, dpid, Entry(Table.STEERING, Priority.RETURNED, returned))


def _middlebox_entry(middlebox: SeenHost) -> Entry:
    own = match(in_port=middlebox.port, eth_src=middlebox.mac)
    return Entry(Table.STEERING, Priority.MIDDLEBOX, own, goto=Table.SOURCES)


def _put(made: Plan, dpid: int, entry: Entry) -> None:
    made.entries[dpid][entry.key] = entry


def diff(made: Plan, dpid: int, installed: Iterable[Entry]) -> Diff:
    """Return what makes switch `dpid`, which has `installed`, have what the plan says."""
    desired = made.entries.get(dpid, {})
    present = {entry.key: entry for entry in installed}
    adds = [entry for key, entry in desired.items() if present.get(key) != entry]
    deletes = [
        entry
        for key, entry in present.items()
        if key not in desired and made.generation is not None and not _awaited(made, entry)
    ]
    return Diff(adds, deletes)


def _awaited(made: Plan, entry: Entry) -> bool:
    """Whether the entry may belong to a mirror that waits for its hosts to be seen again."""
    if entry.priority == Priority.MIDDLEBOX:
        return bool(made.awaited)
    return match(**{k: v for k, v in entry.match if k != "in_port"}) in made.awaited


def report(
    made: Plan, installed: Mapping[int, Mapping[EntryKey, Installed]]
) -> SteeringReport | None:
    """Return how far the switches are; `installed` is what each one last reported.

    None where the service has not said yet what it wants.
    """
    if made.generation is None:
        return None
    statuses = [_status(place, installed) for place in made.places]
    return SteeringReport(generation=made.generation, mirrors=statuses)


def _status(place: Place, installed: Mapping[int, Mapping[EntryKey, Installed]]) -> MirrorStatus:
    mirror, middlebox = place.mirror, place.middlebox
    if middlebox is None:
        state: Literal["impossible", "pending"]
        state = "impossible" if place.state == "impossible" else "pending"
        return MirrorStatus(id=mirror.id, state=state, reason=place.reason)
    entries = installed.get(middlebox.dpid, {})
    found = [
        entries.get((Table.STEERING, Priority.MIRROR, service))
        for service in service_matches(mirror.transport, mirror.server, mirror.port)
    ]
    copying = [each for each in found if each and middlebox.port in each.entry.outputs]
    confirmed = len(copying) == len(found)
    return MirrorStatus(
        id=mirror.id,
        state="installed" if confirmed else "pending",
        reason="" if confirmed else f"switch {middlebox.dpid} has not confirmed the entries yet",
        dpid=middlebox.dpid,
        port=middlebox.port,
        packets=sum(each.packets for each in copying),
        bytes=sum(each.bytes for each in copying),
    )
