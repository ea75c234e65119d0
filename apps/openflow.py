"""Between our entries and Ryu's OpenFlow 1.3 messages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ryu.controller.controller import Datapath
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

from controller.steering import CONTROLLER_PORT, COOKIE, COOKIE_MASK, Entry, Installed

log = logging.getLogger(__name__)

PACKET_IN_BYTES = 128
"""How much of a packet a switch sends us: enough for Ethernet, ARP, IPv4 and link discovery."""

Message = Any
"""A message of Ryu's parser; Ryu has no types."""


def send(datapath: Datapath, messages: Sequence[Message]) -> bool:
    """Queue messages as one piece; return False where the switch does not take them.

    Nobody waits here for a switch that does not read: its queue is full, and the caller tries
    again when it has a reason to.
    """
    queue = datapath.send_q
    if queue is None or queue.full():
        log.warning("dropped messages=%d dpid=%s reason=send-queue", len(messages), datapath.id)
        return False
    content = bytearray()
    for message in messages:
        if message.xid is None:
            datapath.set_xid(message)
        message.serialize()
        content += message.buf
    return bool(datapath.send(content))


def adding(
    datapath: Datapath, entry: Entry, cookie: int = COOKIE, hard_timeout: int = 0
) -> Message:
    """Return the message that adds `entry`, or replaces the one with its match and priority.

    A switch tells when one without a timeout is removed.
    """
    return parser.OFPFlowMod(
        datapath,
        table_id=entry.table,
        command=ofp.OFPFC_ADD,
        priority=entry.priority,
        cookie=cookie,
        hard_timeout=hard_timeout,
        flags=0 if hard_timeout else ofp.OFPFF_SEND_FLOW_REM,
        match=parser.OFPMatch(**dict(entry.match)),
        instructions=_instructions(entry),
    )


def deleting(datapath: Datapath, entry: Entry) -> Message:
    """Return the message that deletes `entry`, and no other, if it carries our cookie."""
    return parser.OFPFlowMod(
        datapath,
        table_id=entry.table,
        command=ofp.OFPFC_DELETE_STRICT,
        priority=entry.priority,
        cookie=COOKIE,
        cookie_mask=COOKIE_MASK,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=parser.OFPMatch(**dict(entry.match)),
    )


def clearing(datapath: Datapath, table: int, cookie: int, **fields: Any) -> Message:  # noqa: ANN401
    """Return the message that deletes all entries of a table with a cookie and a match."""
    return parser.OFPFlowMod(
        datapath,
        table_id=table,
        command=ofp.OFPFC_DELETE,
        cookie=cookie,
        cookie_mask=COOKIE_MASK,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=parser.OFPMatch(**fields),
    )


def _instructions(entry: Entry) -> list[Message]:
    actions = [
        parser.OFPActionOutput(port, PACKET_IN_BYTES if port == CONTROLLER_PORT else 0)
        for port in entry.outputs
    ]
    instructions: list[Message] = []
    if actions:
        instructions.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions))
    if entry.goto is not None:
        instructions.append(parser.OFPInstructionGotoTable(entry.goto))
    return instructions


def installed(statistics: Message) -> Installed:
    """Return one entry of a flow statistics reply as ours."""
    outputs: list[int] = []
    goto = None
    foreign = bool(statistics.idle_timeout or statistics.hard_timeout)
    for instruction in statistics.instructions:
        if isinstance(instruction, parser.OFPInstructionGotoTable):
            goto = instruction.table_id
        elif getattr(instruction, "type", None) == ofp.OFPIT_APPLY_ACTIONS:
            plain = [a for a in instruction.actions if isinstance(a, parser.OFPActionOutput)]
            foreign |= len(plain) != len(instruction.actions)
            outputs += [action.port for action in plain]
        else:
            foreign = True
    entry = Entry(
        table=statistics.table_id,
        priority=statistics.priority,
        match=tuple(sorted(statistics.match.items())),
        outputs=tuple(outputs),
        goto=goto,
        foreign=foreign,
    )
    return Installed(entry, statistics.packet_count, statistics.byte_count)
