"""The flows that hosts tell of: the latest of each goes into the CIB, only what is new or changed.

In memory there is a number for each open flow, not the flow, and there are at most `MAX_OPEN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.monitor_recorder import Recorder
from controller.monitor_tables import FlowRow
from wire.messages import Flow, Flows

MAX_OPEN = 100_000
"""Open flows of all hosts together; the NCO keeps track of no more."""

SAME = 1.0
"""Seconds by which the times of opening of one flow may differ, told by two agents' clocks."""

Key = tuple[str, int, float]
"""Transport, number, time of opening: with the host, the key of a `FlowRow`."""


class FlowTable:
    """Compares what each host tells with what it told before."""

    def __init__(
        self,
        recorder: Recorder,
        clock: Callable[[], float],
        intent_of: Callable[[str, str], str | None],
        room: int = MAX_OPEN,
    ) -> None:
        """`clock` gives Unix time, `intent_of` the intent of a host's customization."""
        self.omitted = 0
        """Flows that were not kept track of, for want of room here or in a message."""
        self._recorder = recorder
        self._clock = clock
        self._intent_of = intent_of
        self._room = room
        self._open: dict[str, dict[Key, int]] = {}
        """Of each host's open flows, a hash of what was told last."""
        self._count = 0

    @property
    def open(self) -> int:
        """How many flows are open, as far as is known."""
        return self._count

    def restore(self, keys: Iterable[tuple[str, Key]]) -> None:
        """Begin with the flows that were open when the service ended: (host, key) of each."""
        for host, key in keys:
            self._open.setdefault(host, {})[key] = 0
            self._count += 1

    def told(self, host: str, message: Flows) -> None:
        """Take over the flows of a host; those that it no longer tells of have ended."""
        now = self._clock()
        before = self._open.pop(host, {})
        openings = {(transport, number): opened for transport, number, opened in before}
        after: dict[Key, int] = {}
        room = self._room - self._count + len(before)
        for flow in message.flows:
            key: Key = (flow.transport, flow.number, _opening(flow, openings))
            if len(after) >= room:
                self.omitted += 1
                continue
            after[key] = hash(flow.model_dump_json())
            if before.get(key) != after[key]:
                self._recorder.put(FlowRow, self._row(host, flow, key[2], now))
        for ended in before.keys() - after.keys():
            self._recorder.put(FlowRow, {**_names(host, ended), "ended": now})
        self.omitted += message.omitted
        self._count += len(after) - len(before)
        if after:
            self._open[host] = after

    def _row(self, host: str, flow: Flow, opened: float, now: float) -> dict[str, Any]:
        every = (self._intent_of(host, one.id) for one in flow.customizations)
        intents = dict.fromkeys(filter(None, every))
        return {
            **flow.model_dump(mode="json"),
            "host": host,
            "opened": opened,
            "seen": now,
            "ended": None,
            "intents": f" {' '.join(intents)} ",
        }


def _opening(flow: Flow, before: Mapping[tuple[str, int], float]) -> float:
    """Return when a flow was opened, as it was told first: an agent that restarts reads it anew."""
    opened = flow.opened or 0.0
    known = before.get((flow.transport, flow.number), opened)
    return known if abs(known - opened) < SAME else opened


def _names(host: str, key: Key) -> dict[str, Any]:
    transport, number, opened = key
    return {"host": host, "transport": transport, "number": number, "opened": opened}
