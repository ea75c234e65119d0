"""Which hosts and addresses an intent's endpoints are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from controller.errors import Invalid, listed
from controller.facts import HostFacts
from controller.intent import Endpoint, Server


@dataclass(frozen=True)
class ServerPlace:
    """A server's host, and where clients reach it."""

    host: HostFacts
    addresses: tuple[str, ...]


def members(end: Endpoint, hosts: Mapping[str, HostFacts]) -> list[HostFacts]:
    """Return the hosts that an endpoint means, in the order of their names.

    Raises Invalid where it names one that is not there; of a label or prefix there may be none.
    """
    if end.plain:
        return []
    if end.host is not None:
        return [facts_of(hosts, end.host)]
    wanted = set(end.label)
    return [
        hosts[name]
        for name in sorted(hosts)
        if (wanted <= hosts[name].labels if wanted else inside(end, hosts[name]))
    ]


def inside(end: Endpoint, facts: HostFacts) -> tuple[str, ...]:
    """Return those of a host's addresses that are in an endpoint's prefix."""
    return tuple(a for a in facts.addresses if end.prefix and ip_address(a) in end.prefix)


def server_place(server: Server, facts: HostFacts) -> ServerPlace:
    """Return where clients reach a host of a server endpoint; raises Invalid."""
    return ServerPlace(facts, _addresses(server, facts))


def facts_of(hosts: Mapping[str, HostFacts], name: str) -> HostFacts:
    """Return what is known of a host; raises Invalid where its agent never connected."""
    if name not in hosts:
        raise Invalid(
            f"there is no host {name!r}; hosts whose agent has connected: "
            f"{listed(hosts, 'nco host list')}"
        )
    return hosts[name]


def address_of(facts: HostFacts, wanted: IPv4Address | IPv6Address | None) -> str:
    """Return a host's one address, or the wanted one if it has it; raises Invalid."""
    if wanted is not None:
        return _had(facts, wanted)
    found = [address for address in facts.addresses if family(address) == 4] or facts.addresses
    if len(found) != 1:
        raise _which(facts)
    return found[0]


def is_usable(text: str) -> bool:
    """Whether what an agent calls an address is one that others can reach its host by."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    useless = (address.is_loopback, address.is_link_local, address.is_multicast)
    return str(address) == text and not address.is_unspecified and not any(useless)


def family(address: str) -> int:
    """Return the version of IP that an address is of."""
    return 6 if ":" in address else 4


def socket_text(address: str, port: int) -> str:
    """Return an address and a port as people write them."""
    return f"[{address}]:{port}" if family(address) == 6 else f"{address}:{port}"


def families(addresses: Iterable[str]) -> frozenset[int]:
    """Return the versions of IP that addresses are of."""
    return frozenset(map(family, addresses))


def _addresses(server: Server, facts: HostFacts) -> tuple[str, ...]:
    if server.address:
        return tuple(_had(facts, wanted) for wanted in server.address)
    if server.prefix is not None:
        return inside(server, facts)
    if server.host is not None and len(facts.addresses) != len(families(facts.addresses)):
        raise _which(facts)
    if not facts.addresses:
        raise Invalid(f"host {facts.name} has no address that clients could reach it by")
    return facts.addresses


def _had(facts: HostFacts, wanted: IPv4Address | IPv6Address) -> str:
    if str(wanted) not in facts.addresses:
        raise Invalid(f"host {facts.name} does not have address {wanted}; it has: {_listed(facts)}")
    return str(wanted)


def _which(facts: HostFacts) -> Invalid:
    return Invalid(
        f"host {facts.name} has no single address ({_listed(facts)}): say which by `address`"
    )


def _listed(facts: HostFacts) -> str:
    return ", ".join(facts.addresses) or "none"
