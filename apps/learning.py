"""Which host is attached where, learnt from the sources of packets; links between switches.

Pure: the caller says what time it is. Sources can be forged, so that a port has room for a limited
number of hosts, and a source that only shows up on links to other switches is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from apps.headers import Source
from controller.switch_link import SeenHost

HOSTS_PER_PORT = 64
HOSTS_AT_MOST = 16384
STALE_SECONDS = 300.0
"""A host silent for so long makes room for another one, where its port is full."""

LINK_SECONDS = 16.0
"""A link that three discovery frames in a row did not pass is gone."""

MOVE_SECONDS = 1.0
"""A host that moved stays for so long: two ports that claim one address cannot keep us busy."""

SwitchAndPort = tuple[int, int]


class Outcome(Enum):
    """What a packet taught."""

    REFUSED = "refused"
    """Not believed: forward it, but learn nothing."""
    KNOWN = "known"
    LEARNT = "learnt"
    """A new host or a new address."""
    MOVED = "moved"
    """The host is on another port now: what switches learnt of it before is wrong."""


@dataclass
class _Host:
    place: SwitchAndPort
    heard: float
    since: float
    address: str | None = None
    announced: bool = False

    def take_address(self, source: Source) -> bool:
        """Take the packet's address; a router's packets do not displace its own."""
        if source.address in (None, self.address) or (self.announced and not source.announced):
            return False
        self.address, self.announced = source.address, source.announced
        return True


class Hosts:
    """The hosts of the network by MAC address."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._at: dict[SwitchAndPort, set[str]] = {}

    def hear(self, place: SwitchAndPort, source: Source, on_link: bool, now: float) -> Outcome:
        """Take note that a packet of `source` came in at `place`."""
        host = self._hosts.get(source.mac)
        if on_link:
            elsewhere = host is not None and host.place[0] != place[0]
            return Outcome.KNOWN if elsewhere else Outcome.REFUSED
        if host is None or host.place != place:
            return self._attach(place, source, now)
        host.heard = now
        return Outcome.LEARNT if host.take_address(source) else Outcome.KNOWN

    def _attach(self, place: SwitchAndPort, source: Source, now: float) -> Outcome:
        moved = self._hosts.get(source.mac)
        if moved and now - moved.since < MOVE_SECONDS:
            return Outcome.REFUSED
        if not self._make_room(place, now):
            return Outcome.REFUSED
        if moved:
            self._detach(source.mac)
            moved.place, moved.heard, moved.since = place, now, now
        host = self._hosts.setdefault(source.mac, _Host(place, heard=now, since=now))
        host.take_address(source)
        self._at.setdefault(place, set()).add(source.mac)
        return Outcome.MOVED if moved else Outcome.LEARNT

    def _make_room(self, place: SwitchAndPort, now: float) -> bool:
        here = self._at.get(place, set())
        if len(here) < HOSTS_PER_PORT and len(self._hosts) < HOSTS_AT_MOST:
            return True
        oldest = min(here, key=lambda mac: self._hosts[mac].heard, default=None)
        if oldest is None or now - self._hosts[oldest].heard < STALE_SECONDS:
            return False
        self._detach(oldest)
        del self._hosts[oldest]
        return True

    def _detach(self, mac: str) -> None:
        place = self._hosts[mac].place
        self._at[place].discard(mac)
        if not self._at[place]:
            del self._at[place]

    def has_address(self, mac: str) -> bool:
        """Whether a host has said an IPv4 address."""
        host = self._hosts.get(mac)
        return host is not None and host.address is not None

    def forget(self, place: SwitchAndPort) -> set[str]:
        """Forget the hosts at a port, and return their MAC addresses."""
        gone = self._at.pop(place, set())
        for mac in gone:
            del self._hosts[mac]
        return gone

    def seen(self) -> list[SeenHost]:
        """Return the hosts with a known address; of two with the same, the one heard last."""
        by_address: dict[str, SeenHost] = {}
        for mac, host in sorted(self._hosts.items(), key=lambda item: item[1].heard):
            if host.address:
                dpid, port = host.place
                by_address[host.address] = SeenHost(
                    mac=mac, address=host.address, dpid=dpid, port=port
                )
        return sorted(by_address.values(), key=lambda host: host.mac)


class Links:
    """Switch ports that lead to another switch."""

    def __init__(self) -> None:
        self._until: dict[SwitchAndPort, float] = {}

    def hear(self, sent: SwitchAndPort, received: SwitchAndPort, now: float) -> set[SwitchAndPort]:
        """Take note that a discovery frame passed; return the ports that are links only now.

        A frame that comes back to its own switch says nothing: a host can play one back.
        """
        if sent[0] == received[0]:
            return set()
        fresh = {end for end in (sent, received) if not self.has(end, now)}
        self._until.update(dict.fromkeys((sent, received), now + LINK_SECONDS))
        return fresh

    def has(self, place: SwitchAndPort, now: float) -> bool:
        """Whether a link ends at the port."""
        return self._until.get(place, now) > now

    def forget(self, place: SwitchAndPort) -> None:
        """Take note that the port is down or gone."""
        self._until.pop(place, None)
