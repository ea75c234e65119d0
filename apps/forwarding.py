"""Ryu application: forwarding by learnt addresses, in a network without loops.

Table 1 holds learnt sources by port, so that known ones make no packet-in; they end after
SOURCE_SECONDS, and the next packet confirms them, or shows where the host is now. Table 2 holds
learnt destinations; they live longer, so that a host that speaks is never flooded to. The
permanent entries of both tables are in `controller.steering`, and kept there by `apps.steering`.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls
from ryu.ofproto import ofproto_v1_3 as ofp

from apps import openflow
from apps.discovery import Discovery, EventRelearn, EventSource
from controller.steering import IPV6, Entry, Table, match

COOKIE = 0x4C34_3501_0000_0000

SOURCE_SECONDS = 60
DESTINATION_SECONDS = 600
PRIORITY = 100

AGAIN_SECONDS = 5.0
"""Packets that are seen all the same (ARP, those on the way meanwhile) do not write them again."""

RECENT_AT_MOST = 4096

app_manager.require_app("apps.steering")


class Forwarding(app_manager.RyuApp):
    """Writes what discovery learns into the switches."""

    OFP_VERSIONS: ClassVar = [ofp.OFP_VERSION]
    _CONTEXTS: ClassVar = {"discovery": Discovery}

    def __init__(self, *args: Any, discovery: Discovery, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._discovery = discovery
        self._recent: dict[tuple[int, int, str, bool], float] = {}

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def connected(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Have a switch show all sources again; it goes on forwarding meanwhile."""
        openflow.send(event.datapath, [_clearing_sources(event.datapath)])
        self._recent.clear()

    @set_ev_cls(EventSource)
    def source_seen(self, event: EventSource) -> None:
        """Write a source and the way to it into the switch that saw it."""
        now = time.monotonic()
        seen = (event.datapath.id, event.port, event.mac, event.ipv6_only)
        if now - self._recent.get(seen, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        if len(self._recent) >= RECENT_AT_MOST:
            self._recent.clear()
        if openflow.send(event.datapath, _learnt(event)):
            self._recent[seen] = now

    @set_ev_cls(EventRelearn)
    def relearn(self, event: EventRelearn) -> None:
        """Take hosts that are elsewhere now out of the switches."""
        for dpid, datapath in list(self._discovery.datapaths.items()):
            if dpid != event.but:
                openflow.send(datapath, _forgetting(datapath, event.macs))
        self._recent.clear()


def _learnt(event: EventSource) -> list[openflow.Message]:
    """Return the entries of a source; the destination first, as the source ends packet-ins."""
    datapath, port, mac = event.datapath, event.port, event.mac
    way = Entry(Table.DESTINATIONS, PRIORITY, match(eth_dst=mac), outputs=(port,))
    fields: dict[str, int | str] = {"in_port": port, "eth_src": mac}
    if event.ipv6_only:
        fields["eth_type"] = IPV6
    known = Entry(Table.SOURCES, PRIORITY, match(**fields), goto=Table.DESTINATIONS)
    return [
        _clearing_sources(datapath, eth_src=mac),
        openflow.adding(datapath, way, COOKIE, DESTINATION_SECONDS),
        openflow.adding(datapath, known, COOKIE, SOURCE_SECONDS),
    ]


def _forgetting(datapath: Datapath, macs: set[str]) -> list[openflow.Message]:
    return [
        message
        for mac in macs
        for message in (
            _clearing_sources(datapath, eth_src=mac),
            openflow.clearing(datapath, Table.DESTINATIONS, COOKIE, eth_dst=mac),
        )
    ]


def _clearing_sources(datapath: Datapath, **fields: str) -> openflow.Message:
    return openflow.clearing(datapath, Table.SOURCES, COOKIE, **fields)
