"""Ryu application: makes the switches have what `controller.steering` plans.

It writes nothing on trust. A switch is asked what it has (flow statistics by our cookie), the
difference is written, and it is asked again; the same happens every POLL_SECONDS, after every
change, and when a switch says that an entry of ours is gone. So a reconnect, a lost message and
an entry deleted by hand are all the same case.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.event import EventBase
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

from apps import openflow
from apps.background import BackgroundApp
from apps.discovery import Discovery, EventNetworkChange
from controller import steering
from controller.steering import COOKIE, COOKIE_MASK, EntryKey, Installed, Plan
from controller.switch_link import Steering, SteeringReport

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
COALESCE_SECONDS = 0.2
"""Changes that come together (a switch connects, its hosts are learnt) are planned once."""

FORWARDING = os.environ.get("L45_FORWARDING", "on") != "off"
"""Whether tables 1 and 2 are ours; if not, an operator's own application begins in table 1."""

ANSWER_SECONDS = 10.0
"""A question that is not answered for so long is asked again; until then its answer will do."""

ROUNDS_IN_A_ROW = 3
"""A switch that still differs after so many writes is left until the next poll."""


class EventSteeringWanted(EventBase):
    """The service says what it wants."""

    def __init__(self, wanted: Steering) -> None:
        super().__init__()
        self.wanted = wanted


class EventSteeringReport(EventBase):
    """How far the switches are."""

    def __init__(self, report: SteeringReport) -> None:
        super().__init__()
        self.report = report


@dataclass
class _Switch:
    """What one connection has said of our entries."""

    datapath: Datapath
    asked: int | None = None
    """Transaction of the statistics request that is under way."""
    asked_at: float = 0.0
    reply: list[Installed] = field(default_factory=list)
    entries: dict[EntryKey, Installed] = field(default_factory=dict)
    rounds: int = 0


class SteeringApp(BackgroundApp):
    """Reconciles the switches."""

    _CONTEXTS: ClassVar = {"discovery": Discovery}
    _EVENTS: ClassVar = [EventSteeringReport]
    period = COALESCE_SECONDS

    def __init__(self, *args: Any, discovery: Discovery, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._discovery = discovery
        self._switches: dict[int, _Switch] = {}
        self._wanted: Steering | None = None
        self._plan = Plan()
        self._changed = False
        self._polled = -POLL_SECONDS

    def tick(self) -> None:
        """Plan and ask after changes; ask and report every POLL_SECONDS."""
        due = time.monotonic() - self._polled >= POLL_SECONDS
        if self._changed or due:
            self._changed = False
            self._replan()
            self._ask_all()
        if due:
            self._polled = time.monotonic()
            self._report()

    @set_ev_cls(EventSteeringWanted)
    def want(self, event: EventSteeringWanted) -> None:
        """Take what the service wants from now on."""
        self._wanted = event.wanted
        self._changed = True

    @set_ev_cls(EventNetworkChange)
    def network_changed(self, _event: EventNetworkChange) -> None:
        """Have it planned anew, for other switches or hosts."""
        self._changed = True

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def statistics(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Take one part of what a switch has, and act on the whole."""
        message = event.msg
        switch = self._switches.get(message.datapath.id)
        if switch is None or switch.datapath is not message.datapath:
            return
        if message.xid != switch.asked:
            return
        switch.reply += [openflow.installed(each) for each in message.body]
        if not message.flags & ofp.OFPMPF_REPLY_MORE:
            self._compare(switch)

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def entry_removed(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Look at a switch that lost an entry of ours."""
        switch = self._switches.get(event.msg.datapath.id)
        if switch and event.msg.cookie & COOKIE_MASK == COOKIE and switch.asked is None:
            self._ask(switch)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)
    def refused(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        """Log what a switch refuses; the next poll tries again."""
        message = event.msg
        code = getattr(message, "code", None)
        log.warning("refused dpid=%s type=%s code=%s", message.datapath.id, message.type, code)

    def _replan(self) -> None:
        datapaths = self._discovery.datapaths
        self._plan = steering.plan(
            self._wanted, self._discovery.hosts.seen(), datapaths, FORWARDING
        )
        for gone in set(self._switches) - set(datapaths):
            del self._switches[gone]
        for dpid, datapath in list(datapaths.items()):
            known = self._switches.get(dpid)
            if known is None or known.datapath is not datapath:
                self._switches[dpid] = _Switch(datapath)

    def _ask(self, switch: _Switch) -> None:
        """Ask a switch what it has of ours; an earlier question is forgotten."""
        request = parser.OFPFlowStatsRequest(
            switch.datapath, table_id=ofp.OFPTT_ALL, cookie=COOKIE, cookie_mask=COOKIE_MASK
        )
        switch.reply = []
        switch.asked = switch.datapath.set_xid(request)
        switch.asked_at = time.monotonic()
        openflow.send(switch.datapath, [request])

    def _compare(self, switch: _Switch) -> None:
        switch.asked = None
        switch.entries = {each.entry.key: each for each in switch.reply}
        switch.reply = []
        present = [each.entry for each in switch.entries.values()]
        difference = steering.diff(self._plan, switch.datapath.id, present)
        if not difference:
            switch.rounds = 0
            self._report()
        elif switch.rounds < ROUNDS_IN_A_ROW:
            switch.rounds += 1
            self._write(switch, difference)
            self._ask(switch)

    def _write(self, switch: _Switch, difference: steering.Diff) -> None:
        datapath = switch.datapath
        messages = [openflow.deleting(datapath, entry) for entry in difference.deletes]
        messages += [openflow.adding(datapath, entry) for entry in difference.adds]
        openflow.send(datapath, [*messages, parser.OFPBarrierRequest(datapath)])
        log.info(
            "wrote entries dpid=%d added=%d deleted=%d",
            datapath.id, len(difference.adds), len(difference.deletes),
        )  # fmt: skip

    def _report(self) -> None:
        entries = {dpid: switch.entries for dpid, switch in self._switches.items()}
        if report := steering.report(self._plan, entries):
            self.send_event_to_observers(EventSteeringReport(report))

    def _ask_all(self) -> None:
        overdue = time.monotonic() - ANSWER_SECONDS
        for switch in self._switches.values():
            switch.rounds = 0
            if switch.asked is None or switch.asked_at < overdue:
                self._ask(switch)
