"""A socket of the generic netlink family "l45": the door of the kernel tap.

It speaks for the network namespace that it was made in. Usage::

    with L45() as l45:
        l45.apply([(customization, "l45_stream_tag_0123456789ab")])
        for one in l45.customizations():
            print(one.id, one.counters.sent)
        l45.listen()
        for event in l45.events(seconds=1.0):
            print(event.name, event.flow)

What the kernel refuses is a NetlinkError: its errno in `code`, its words in `args[1]`.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket, GenericNetlinkSocket

from host_agent.kmod_abi import (
    CMD_APPLY,
    CMD_CHALLENGE,
    CMD_GET_CODE,
    CMD_GET_CUSTOMIZATIONS,
    CMD_GET_FLOWS,
    CMD_GET_INFO,
    EVENT_NAMES,
    EVENTS,
    FAMILY,
    VERSION,
    l45msg,
)
from host_agent.kmod_records import (
    Code,
    FlowRecord,
    InForce,
    pack_customization,
    unpack_code,
    unpack_customization,
    unpack_flow,
)
from wire.messages import Customization

DUMP_TRIES = 4
"""A dump during which something changed is begun anew, but not for ever."""


LOST = "lost"
"""The kernel had more events than this listener had room for: what is so must be asked for."""

NOT_LOADED = "l45.ko is not loaded (`dca tap load`)"


@dataclass(frozen=True)
class Info:
    """What the tap is, and how many sets were applied in this namespace."""

    version: int
    generation: int


@dataclass(frozen=True)
class Answer:
    """What the kernel says to a challenge; `wire.challenge` knows whether it is right."""

    build_id: bytes
    answer: bytes


@dataclass(frozen=True)
class Event:
    """Something that happened in this namespace: one of EVENT_NAMES, or LOST."""

    name: str
    flow: FlowRecord | None = None
    generation: int | None = None
    customization: InForce | None = None


class AsyncL45(AsyncGenericNetlinkSocket):
    """What pyroute2 wants besides: a family that is not there is no error of ours to log."""

    module_err_level = "debug"


class L45(GenericNetlinkSocket):
    """See the module's text. A context manager that closes it."""

    async_class = AsyncL45

    def __init__(self) -> None:
        """Open it; raises NetlinkError with ENOENT where the tap is not loaded."""
        super().__init__(ext_ack=True)
        try:
            self.bind(FAMILY, l45msg)
        except BaseException as error:
            self.close()
            if isinstance(error, NetlinkError) and error.code == errno.ENOENT:
                raise NetlinkError(errno.ENOENT, NOT_LOADED) from error
            raise

    def __enter__(self) -> L45:
        return self

    def info(self) -> Info:
        """Return what the tap is; anybody may ask."""
        said = self._do(CMD_GET_INFO)
        return Info(said.get_attr("L45_A_INFO_VERSION"), said.get_attr("L45_A_GENERATION") or 0)

    def code(self) -> list[Code]:
        """Return the modules that are loaded, of all namespaces."""
        return [unpack_code(said.get_attr("L45_A_CODE")) for said in self._dump(CMD_GET_CODE)]

    def apply(
        self, customizations: Sequence[tuple[Customization, str]], drain_ms: int | None = None
    ) -> int:
        """Make these the whole set of the namespace; return its number.

        With each goes the name of the kernel module that it runs. Streams of what is gone are
        reset after `drain_ms`; the kernel's default where left out.
        """
        each = [("L45_A_CUSTOMIZATION", pack_customization(*one)) for one in customizations]
        attributes: list[tuple[str, Any]] = [("L45_A_SET", {"attrs": each})]
        if drain_ms is not None:
            attributes.append(("L45_A_DRAIN_MS", drain_ms))
        return int(self._do(CMD_APPLY, *attributes).get_attr("L45_A_GENERATION") or 0)

    def customizations(self) -> list[InForce]:
        """Return the namespace's, in the order of asking; those that are drained last."""
        said = self._dump(CMD_GET_CUSTOMIZATIONS)
        return [unpack_customization(one.get_attr("L45_A_CUSTOMIZATION")) for one in said]

    def flows(self) -> list[FlowRecord]:
        """Return the namespace's sockets that have customizations."""
        return [unpack_flow(one.get_attr("L45_A_FLOW")) for one in self._dump(CMD_GET_FLOWS)]

    def challenge(self, customization: str, nonce: bytes) -> Answer:
        """Let the kernel prove what runs under this id."""
        asked = ("L45_A_ID", bytes.fromhex(customization)), ("L45_A_NONCE", nonce)
        said = self._do(CMD_CHALLENGE, *asked)
        build_id, answer = said.get_attr("L45_A_BUILD_ID"), said.get_attr("L45_A_ANSWER")
        return Answer(build_id or b"", answer or b"")

    def listen(self) -> None:
        """Get events from now on."""
        self.add_membership(EVENTS)

    def events(self, seconds: float) -> Iterator[Event]:
        """Yield the events of so many seconds, as they come."""
        until = time.monotonic() + seconds
        socket = self.asyncore.socket
        while (left := until - time.monotonic()) > 0:
            if select.select([socket], [], [], left)[0]:
                yield from self._events_now()

    def _events_now(self) -> Iterator[Event]:
        try:
            data = self.asyncore.socket.recv(65536)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield Event(LOST)
            return
        for said in self.marshal.parse(data):
            if isinstance(said, l45msg) and said["cmd"] in EVENT_NAMES:
                yield _event(said)

    def _do(self, command: int, *attributes: tuple[str, Any]) -> l45msg:
        """Ask for one thing; return the reply."""
        said = self._ask(command, NLM_F_REQUEST | NLM_F_ACK, attributes)
        if not said or not isinstance(said[0], l45msg):
            raise NetlinkError(errno.EPROTO, f"no answer to command {command}")
        return said[0]

    def _dump(self, command: int) -> tuple[l45msg, ...]:
        """Ask for a list; what changed while it was told is told again."""
        for _ in range(DUMP_TRIES):
            said = self._ask(command, NLM_F_REQUEST | NLM_F_DUMP, ())
            if not any(one["header"]["flags"] & NLM_F_DUMP_INTR for one in said):
                break
        return said

    def _ask(
        self, command: int, flags: int, attributes: Sequence[tuple[str, Any]]
    ) -> tuple[l45msg, ...]:
        message = l45msg()
        message["cmd"], message["version"] = command, VERSION
        message["attrs"] = list(attributes)
        said: tuple[l45msg, ...] = self.nlm_request(message, msg_type=self.prid, msg_flags=flags)
        return said


def _event(said: l45msg) -> Event:
    flow, customization = said.get_attr("L45_A_FLOW"), said.get_attr("L45_A_CUSTOMIZATION")
    return Event(
        name=EVENT_NAMES[said["cmd"]],
        flow=unpack_flow(flow) if flow else None,
        generation=said.get_attr("L45_A_GENERATION"),
        customization=unpack_customization(customization) if customization else None,
    )
