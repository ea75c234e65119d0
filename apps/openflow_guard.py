"""Puts `openflow_check` and `openflow_limits` before Ryu's parser.

A message that does not pass is logged, and its connection is closed: Ryu and the other switches
go on. A message that is well formed but that Ryu cannot read is logged and passed over.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from weakref import WeakKeyDictionary

import ryu.base.app_manager  # noqa: F401 - first: it and the controller import each other
from ryu.controller.controller import Datapath
from ryu.ofproto import ofproto_parser, ofproto_v1_3_parser

from apps.openflow_check import MalformedMessage, check
from apps.openflow_limits import Limits

log = logging.getLogger(__name__)

UNREADABLE_AT_MOST = 16
"""Messages of one connection that Ryu cannot read, before it is closed."""

NICIRA_CONTROLLER2 = 37

__all__ = ["MalformedMessage", "check", "install"]


class _Connection:
    """What the guard knows of a switch's connection."""

    def __init__(self) -> None:
        self.limits = Limits(time.monotonic())
        self.unreadable = 0

    def cannot_read(self, address: object, msg_type: int, error: Exception) -> None:
        """Log a message that Ryu raised on; raises MalformedMessage when there were too many."""
        self.unreadable += 1
        log.warning("unreadable address=%s type=%d reason=%r", address, msg_type, error)
        if self.unreadable > UNREADABLE_AT_MOST:
            raise MalformedMessage(f"more than {UNREADABLE_AT_MOST} messages that Ryu cannot read")


_connections: WeakKeyDictionary[Any, _Connection] = WeakKeyDictionary()


def install() -> None:
    """Guard the OpenFlow connections of this process from now on; once is enough."""
    ofproto_parser.msg = parse
    Datapath._recv_loop = _closing_malformed(Datapath._recv_loop)
    # Ryu's parser of this action takes its properties apart wrongly, and can loop on them; left
    # to the parser of unknown actions, it is kept as it is.
    ofproto_v1_3_parser.NXAction._subtypes.pop(NICIRA_CONTROLLER2, None)


def parse(  # noqa: PLR0917 - Ryu's signature
    datapath: Datapath, version: int, msg_type: int, msg_len: int, xid: int, buf: bytearray
) -> Any:  # noqa: ANN401 - a message of Ryu's
    """Return Ryu's message, or None for one to pass over, as `ofproto_parser.msg` does.

    Raises MalformedMessage where the connection is to be closed.
    """
    data = bytes(buf)
    check(version, msg_type, msg_len, data)
    connection = _connections.setdefault(datapath, _Connection())
    if not connection.limits.admit(msg_type, data, time.monotonic()):
        return None
    try:
        return ofproto_parser._MSG_PARSERS[version](datapath, version, msg_type, msg_len, xid, data)
    except Exception as error:
        connection.cannot_read(datapath.address, msg_type, error)
        return None


def _closing_malformed(receive: Any) -> Any:  # noqa: ANN401 - Ryu's method
    """Wrap the loop that reads a connection: it closes the socket itself when an error ends it."""

    def receive_guarded(datapath: Datapath) -> None:
        try:
            receive(datapath)
        except MalformedMessage as error:
            log.warning("closed address=%s dpid=%s reason=%s", datapath.address, datapath.id, error)
        except Exception:
            log.exception("closed address=%s dpid=%s", datapath.address, datapath.id)

    return receive_guarded
