"""Ryu application: which switches are there, how they are linked, which host is attached where.

Other applications get it as the context `discovery`, and observe its events. It sees packet-ins
of every table, so it learns hosts also where an operator's own application forwards.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, ClassVar

from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.event import EventBase
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

from apps import headers, lldp, openflow
from apps.background import BackgroundApp
from apps.learning import Hosts, Links, Outcome
from controller.steering import IPV6, permanent_entries

log = logging.getLogger(__name__)

LLDP_SECONDS = 5.0

PACKET_INS_PER_SECOND = 500
"""What a switch may send us; packets over it are forwarded all the same, only not learnt from."""


class EventNetworkChange(EventBase):
    """A switch came or went, or a host was seen somewhere new."""


class EventSource(EventBase):
    """A packet-in taught where a source is, seen from one switch."""

    def __init__(self, datapath: Datapath, port: int, mac: str, ipv6_only: bool) -> None:
        super().__init__()
        self.datapath = datapath
        self.port = port
        self.mac = mac
        self.ipv6_only = ipv6_only
        """Its IPv4 address is still to be learnt, so its other packets must still be shown."""


class EventRelearn(EventBase):
    """What switches learnt of these hosts is out of date."""

    def __init__(self, macs: set[str], but: int | None = None) -> None:
        super().__init__()
        self.macs = macs
        self.but = but
        """The switch that knows better already."""


class Discovery(BackgroundApp):
    """Keeps the switches, links and hosts of the network."""

    _EVENTS: ClassVar = [EventNetworkChange, EventSource, EventRelearn]
    period = LLDP_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Ryu's own
        super().__init__(*args, **kwargs)
        self.datapaths: dict[int, Datapath] = {}
        self.hosts = Hosts()
        self.links = Links()
        self._key = secrets.token_bytes(32)

    def tick(self) -> None:
        """Look for links again."""
        for datapath in list(self.datapaths.values()):
            self._announce(datapath)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def state_changed(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Take a switch that is ready, or let go of one that is not there any more."""
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            self.datapaths[datapath.id] = datapath
            log.info("switch connected dpid=%d address=%s", datapath.id, datapath.address)
            openflow.send(datapath, _first_messages(datapath))
            self._announce(datapath)
        elif self.datapaths.get(datapath.id) is event.datapath:
            self._disconnected(event.datapath)
        self.send_event_to_observers(EventNetworkChange())

    def _disconnected(self, datapath: Datapath) -> None:
        """Let go of a switch; its hosts stay, they are still there when it comes back."""
        del self.datapaths[datapath.id]
        for port in datapath.ports:
            self.links.forget((datapath.id, port))
        log.warning("switch disconnected dpid=%d address=%s", datapath.id, datapath.address)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Learn from a packet."""
        message, datapath = event.msg, event.msg.datapath
        port = message.match.get("in_port")
        if not port or port not in datapath.ports:
            return
        if headers.is_lldp(message.data):
            self._link_seen(datapath, port, message.data)
        elif source := headers.read(message.data):
            self._source_seen(datapath, port, source, headers.kind(message.data))

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def port_status(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Forget what was behind a port that is gone or down; ask a new one where it leads."""
        message, datapath = event.msg, event.msg.datapath
        place = (datapath.id, message.desc.port_no)
        gone = message.reason == ofp.OFPPR_DELETE
        if gone or message.desc.state & ofp.OFPPS_LINK_DOWN:
            self.links.forget(place)
            self._forget_hosts(place)
        elif 0 < message.desc.port_no <= ofp.OFPP_MAX:
            openflow.send(datapath, [self._frame_out(datapath, message.desc.port_no)])

    def on_link(self, dpid: int, port: int) -> bool:
        """Whether the port leads to another switch."""
        return self.links.has((dpid, port), time.monotonic())

    def _source_seen(
        self, datapath: Datapath, port: int, source: headers.Source, kind: int
    ) -> None:
        place = (datapath.id, port)
        outcome = self.hosts.hear(place, source, self.on_link(*place), time.monotonic())
        if outcome is Outcome.REFUSED:
            return
        if outcome is Outcome.MOVED:
            self.send_event_to_observers(EventRelearn({source.mac}, but=datapath.id))
        ipv6_only = kind == IPV6 and not self.hosts.has_address(source.mac)
        self.send_event_to_observers(EventSource(datapath, port, source.mac, ipv6_only))
        if outcome is not Outcome.KNOWN:
            log.info(
                "host %s mac=%s address=%s dpid=%d port=%d",
                outcome.value, source.mac, source.address, *place,
            )  # fmt: skip
            self.send_event_to_observers(EventNetworkChange())

    def _link_seen(self, datapath: Datapath, port: int, frame: bytes) -> None:
        sent = lldp.decode(frame, self._key)
        if sent is None:
            log.debug("foreign lldp dpid=%d port=%d", datapath.id, port)
            return
        for place in self.links.hear(sent, (datapath.id, port), time.monotonic()):
            log.info("link found dpid=%d port=%d", *place)
            self._forget_hosts(place)

    def _forget_hosts(self, place: tuple[int, int]) -> None:
        if macs := self.hosts.forget(place):
            self.send_event_to_observers(EventRelearn(macs))
            self.send_event_to_observers(EventNetworkChange())

    def _announce(self, datapath: Datapath) -> None:
        """Send a discovery frame out of every port of a switch."""
        ports = [port for port in datapath.ports if 0 < port <= ofp.OFPP_MAX]
        if ports:
            openflow.send(datapath, [self._frame_out(datapath, port) for port in ports])

    def _frame_out(self, datapath: Datapath, port: int) -> openflow.Message:
        return parser.OFPPacketOut(
            datapath,
            buffer_id=ofp.OFP_NO_BUFFER,
            in_port=ofp.OFPP_CONTROLLER,
            actions=[parser.OFPActionOutput(port)],
            data=lldp.encode(datapath.id, port, self._key),
        )


def _first_messages(datapath: Datapath) -> list[openflow.Message]:
    """Return what a switch gets before anything can be learnt from it.

    OpenFlow's controller meter drops what goes to the controller, nothing else. A switch without
    meters answers with an error, and the guard bounds it at our end. The entries for discovery
    frames make links known before hosts are looked for behind them.
    """
    band = parser.OFPMeterBandDrop(PACKET_INS_PER_SECOND, PACKET_INS_PER_SECOND)
    flags = ofp.OFPMF_PKTPS | ofp.OFPMF_BURST
    return [
        parser.OFPMeterMod(datapath, ofp.OFPMC_DELETE, flags, ofp.OFPM_CONTROLLER),
        parser.OFPMeterMod(datapath, ofp.OFPMC_ADD, flags, ofp.OFPM_CONTROLLER, [band]),
        *(openflow.adding(datapath, entry) for entry in permanent_entries(forwarding=False)),
    ]
