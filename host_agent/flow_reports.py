"""When the NCO is told of counters and flows: at once where it was quiet, else now and then.

A host with traffic has other counters at every look. Ten thousand of them must not mean ten
thousand messages a second to the NCO: what says what is in force goes at once, what only counts
is kept back for some seconds; where nothing changed, the heartbeat is all that is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from wire.frames import encode
from wire.match import Transport
from wire.messages import MAX_FLOWS, Flow, Flows, dump

REPORT_SECONDS = 5.0
"""How often the NCO is told what only counts; the first change after a quiet time at once."""

MAX_FLOWS_BYTES = 160 * 1024
"""Of one message in its frame; the NCO takes 256 KiB."""

MAX_EXECUTABLE = 256
"""Characters of an executable's path that are told."""

CLOCKS_DIFFER = 0.5
"""Seconds; taps tell times of one clock by another, and read both at each look."""

Key = tuple[Transport, int]


class Pace:
    """Says when something may be sent again."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")

    def due(self) -> bool:
        """Whether it may be sent now."""
        return self._clock() >= self._next

    def sent(self) -> None:
        """Note that it was sent."""
        self._next = self._clock() + self._seconds

    def reset(self) -> None:
        """Let the next be due at once."""
        self._next = float("-inf")


class FlowReporter:
    """Makes the messages about flows out of what the taps say at each look.

    A flow that came, or changed, and went between two messages is told of in the next one, and
    left out of the one after it: so the NCO learns of short flows too.
    """

    def __init__(self, clock: Callable[[], float], seconds: float = REPORT_SECONDS) -> None:
        self._pace = Pace(seconds, clock)
        self._told: Flows | None = None
        self._ended: dict[Key, Flow] = {}
        """Not there any more, and not told of as they were in the end."""
        self._seen: dict[Key, Flow] = {}

    def connected(self) -> None:
        """Begin with a snapshot: a new session has been told nothing."""
        self._told = None
        self._pace.reset()

    def look(self, flows: Sequence[Flow]) -> Flows | None:
        """Take what the taps say now; return the message to send, if one is due."""
        now = {(flow.transport, flow.number): flow for flow in flows}
        now = {key: _steady(flow, self._seen.get(key)) for key, flow in now.items()}
        told = self._told.flows if self._told else []
        gone = {key: flow for key, flow in self._seen.items() if key not in now}
        self._ended |= {key: flow for key, flow in gone.items() if flow not in told}
        self._seen = now
        while len(self._ended) > MAX_FLOWS:
            del self._ended[next(iter(self._ended))]
        if not self._pace.due():
            return None
        message = message_of([*now.values(), *self._ended.values()])
        return None if message == self._told else message

    def sent(self, message: Flows) -> None:
        """Note that a message has gone out."""
        self._told = message
        self._ended = {}
        self._pace.sent()


def message_of(flows: Iterable[Flow]) -> Flows:
    """Return a message with the newest flows that it has room for."""
    newest = sorted(flows, key=lambda flow: flow.opened or 0.0, reverse=True)
    taken: list[Flow] = []
    room = MAX_FLOWS_BYTES
    for flow in map(_shortened, newest[:MAX_FLOWS]):
        room -= len(encode(dump(flow)))
        if room < 0:
            break
        taken.append(flow)
    return Flows(flows=taken, omitted=len(newest) - len(taken))


def _steady(flow: Flow, before: Flow | None) -> Flow:
    """Return a flow with its times as they were, where only the reading of a clock differs."""
    if before is None:
        return flow
    same = {
        name: getattr(before, name)
        for name in ("opened", "last_sent", "last_received")
        if _is_close(getattr(flow, name), getattr(before, name))
    }
    return flow.model_copy(update=same)


def _is_close(time: float | None, before: float | None) -> bool:
    return time is not None and before is not None and abs(time - before) < CLOCKS_DIFFER


def _shortened(flow: Flow) -> Flow:
    path = flow.executable
    if path is None or len(path) <= MAX_EXECUTABLE:
        return flow
    return flow.model_copy(update={"executable": path[:MAX_EXECUTABLE]})
