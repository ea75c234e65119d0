"""Messages of the generic netlink family "l45", as `kernel_tap/include/l45/netlink.h` has them.

Numbers, and attribute maps as pyroute2 wants them; `kmod_records` gives them their meaning.
"""

from __future__ import annotations

from pyroute2.netlink import NLA_F_NESTED, genlmsg, nla

FAMILY = "l45"
VERSION = 1
EVENTS = "events"

CMD_GET_INFO = 1
CMD_GET_CODE = 2
CMD_APPLY = 3
CMD_GET_CUSTOMIZATIONS = 4
CMD_GET_FLOWS = 5
CMD_CHALLENGE = 6
CMD_FLOW_OPENED = 7
CMD_FLOW_CLOSED = 8
CMD_FLOW_BROKEN = 9
CMD_APPLIED = 10
CMD_REMOVED = 11

EVENT_NAMES = {
    CMD_FLOW_OPENED: "flow-opened",
    CMD_FLOW_CLOSED: "flow-closed",
    CMD_FLOW_BROKEN: "flow-broken",
    CMD_APPLIED: "applied",
    CMD_REMOVED: "removed",
}

FLAG_SEND = 1
FLAG_RECEIVE = 2
FLAG_INACTIVE = 4
FLAG_DEPRECATED = 8
FLAG_DRAINING = 16

PROTOCOLS = {"udp": 17, "tcp": 6}
SEND_STATES = ("broken", "new", "plain", "framed")
"""`enum l45_send_state`."""
RECEIVE_STATES = ("broken", "looking", "plain", "framed")
"""`enum l45_receive_state`."""
FAULTS = (
    "none",
    "no such frame",
    "frame too long",
    "unknown customization",
    "module failed",
    "cut inside a frame",
    "late mark",
    "peer did not end in time",
    "no memory",
)
"""`enum l45_fault`."""


class counters(nla):
    """`enum l45_attribute_counter`."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("L45_N_UNSPEC", "none"),
        ("L45_N_SENT", "uint64"),
        ("L45_N_RECEIVED", "uint64"),
        ("L45_N_PASSED", "uint64"),
        ("L45_N_DROPPED", "uint64"),
        ("L45_N_ERRORS", "uint64"),
        ("L45_N_TOO_BIG", "uint64"),
        ("L45_N_SENT_BYTES", "uint64"),
        ("L45_N_RECEIVED_BYTES", "uint64"),
        ("L45_N_PAD", "none"),
    )


class match(nla):
    """`enum l45_attribute_match`."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("L45_M_UNSPEC", "none"),
        ("L45_M_PROTOCOL", "uint8"),
        ("L45_M_THREAD", "asciiz"),
        ("L45_M_PROCESS", "asciiz"),
        ("L45_M_EXECUTABLE", "asciiz"),
        ("L45_M_UID", "uint32"),
        ("L45_M_LOCAL", "cdata"),
        ("L45_M_LOCAL_PREFIX", "uint8"),
        ("L45_M_REMOTE", "cdata"),
        ("L45_M_REMOTE_PREFIX", "uint8"),
        ("L45_M_LOCAL_PORT", "uint16"),
        ("L45_M_LOCAL_PORT_LAST", "uint16"),
        ("L45_M_REMOTE_PORT", "uint16"),
        ("L45_M_REMOTE_PORT_LAST", "uint16"),
    )


class customization(nla):
    """`enum l45_attribute_customization`."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("L45_C_UNSPEC", "none"),
        ("L45_C_ID", "cdata"),
        ("L45_C_CODE", "asciiz"),
        ("L45_C_MATCH", "match"),
        ("L45_C_PRIORITY", "uint32"),
        ("L45_C_FLAGS", "uint32"),
        ("L45_C_PARAMETERS", "cdata"),
        ("L45_C_EPOCH", "uint16"),
        ("L45_C_TOKEN", "cdata"),
        ("L45_C_KEY", "cdata"),
        ("L45_C_MODULE", "asciiz"),
        ("L45_C_FLOWS", "uint32"),
        ("L45_C_COUNTERS", "counters"),
        ("L45_C_PAD", "none"),
    )
    match = match
    counters = counters


class code(nla):
    """`enum l45_attribute_code`."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("L45_CODE_UNSPEC", "none"),
        ("L45_CODE_NAME", "asciiz"),
        ("L45_CODE_MODULE", "asciiz"),
        ("L45_CODE_KIND", "uint8"),
        ("L45_CODE_SIGNATURE", "uint32"),
        ("L45_CODE_BUILD_ID", "cdata"),
        ("L45_CODE_USERS", "uint32"),
    )


class attached(nla):
    """Those of a flow; attributes of `enum l45_attribute_flow`."""

    nla_flags = NLA_F_NESTED
    nla_map = ((24, "L45_F_CUSTOMIZATION", "customization"),)
    customization = customization


class flow(nla):
    """`enum l45_attribute_flow`."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("L45_F_UNSPEC", "none"),
        ("L45_F_NUMBER", "uint64"),
        ("L45_F_PROTOCOL", "uint8"),
        ("L45_F_LOCAL", "cdata"),
        ("L45_F_REMOTE", "cdata"),
        ("L45_F_LOCAL_PORT", "uint16"),
        ("L45_F_REMOTE_PORT", "uint16"),
        ("L45_F_PID", "uint32"),
        ("L45_F_TGID", "uint32"),
        ("L45_F_UID", "uint32"),
        ("L45_F_THREAD", "asciiz"),
        ("L45_F_PROCESS", "asciiz"),
        ("L45_F_EXECUTABLE", "asciiz"),
        ("L45_F_OPENED", "uint64"),
        ("L45_F_SENT", "uint64"),
        ("L45_F_RECEIVED", "uint64"),
        ("L45_F_TX_STATE", "uint8"),
        ("L45_F_RX_STATE", "uint8"),
        ("L45_F_TX_CHANGES", "uint32"),
        ("L45_F_RX_CHANGES", "uint32"),
        ("L45_F_TX_ID", "cdata"),
        ("L45_F_RX_ID", "cdata"),
        ("L45_F_FAULT", "uint8"),
        ("L45_F_ATTACHED", "attached"),
        ("L45_F_CUSTOMIZATION", "customization"),
        ("L45_F_PAD", "none"),
    )
    attached = attached
    customization = customization


class wanted(nla):
    """A set; attributes of `enum l45_attribute`."""

    nla_flags = NLA_F_NESTED
    nla_map = ((5, "L45_A_CUSTOMIZATION", "customization"),)
    customization = customization


class l45msg(genlmsg):
    """`enum l45_attribute`."""

    nla_map = (
        ("L45_A_UNSPEC", "none"),
        ("L45_A_INFO_VERSION", "uint32"),
        ("L45_A_GENERATION", "uint64"),
        ("L45_A_CODE", "code"),
        ("L45_A_SET", "wanted"),
        ("L45_A_CUSTOMIZATION", "customization"),
        ("L45_A_DRAIN_MS", "uint32"),
        ("L45_A_FLOW", "flow"),
        ("L45_A_ID", "cdata"),
        ("L45_A_NONCE", "cdata"),
        ("L45_A_ANSWER", "cdata"),
        ("L45_A_BUILD_ID", "cdata"),
        ("L45_A_PAD", "none"),
    )
    code = code
    wanted = wanted
    customization = customization
    flow = flow
