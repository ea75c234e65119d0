"""An operator's own forwarding, in the place where ours would be: it floods from table 1 on."""

from __future__ import annotations

from typing import Any, ClassVar

from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser


class Flood(app_manager.RyuApp):
    OFP_VERSIONS: ClassVar = [ofp.OFP_VERSION]

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def connected(self, event: Any) -> None:  # noqa: ANN401 - Ryu's own
        actions = [parser.OFPActionOutput(ofp.OFPP_FLOOD)]
        flood = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)
        event.datapath.send_msg(
            parser.OFPFlowMod(event.datapath, table_id=1, priority=0, instructions=[flood])
        )
