"""When the agent tells of flows and counters, in a time of the test's own."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from host_agent.flow_reports import MAX_EXECUTABLE, MAX_FLOWS_BYTES, FlowReporter, Pace, message_of
from wire.frames import encode
from wire.messages import (
    FROM_AGENT,
    MAX_FLOWS,
    Counters,
    Flow,
    FlowCustomization,
    Flows,
    dump,
    parse,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def flow(number: int, sent: int = 0, **said: object) -> Flow:
    counted = FlowCustomization(id="0" * 32, counters=Counters(sent=sent))
    known = {"transport": "udp", "local": "10.10.0.1", "local_port": 5000, "opened": 9.0 * number}
    return Flow.model_validate({**known, **said, "number": number, "customizations": [counted]})


def told(reporter: FlowReporter, *flows: Flow) -> Flows | None:
    message = reporter.look(flows)
    if message is not None:
        reporter.sent(message)
    return message


def test_a_change_after_quiet_is_told_at_once_and_the_next_ones_together() -> None:
    clock = Clock()
    reporter = FlowReporter(clock, seconds=5)
    assert told(reporter) == Flows(), "the snapshot"
    clock.now = 5
    assert told(reporter) is None, "there is nothing to tell"
    assert told(reporter, flow(1)) == Flows(flows=[flow(1)])
    clock.now = 6
    assert told(reporter, flow(1, sent=1)) is None
    clock.now = 10
    assert told(reporter, flow(1, sent=7)) == Flows(flows=[flow(1, sent=7)])
    clock.now = 50
    assert told(reporter, flow(1, sent=7)) is None, "nothing has changed"


def test_a_flow_between_two_messages_is_told_of_once() -> None:
    clock = Clock()
    reporter = FlowReporter(clock, seconds=5)
    told(reporter, flow(1))
    clock.now = 1
    told(reporter, flow(1), flow(2))
    clock.now = 2
    told(reporter, flow(1))
    clock.now = 5
    message = told(reporter, flow(1))
    assert message is not None
    assert [one.number for one in message.flows] == [2, 1]
    clock.now = 10
    assert told(reporter, flow(1)) == Flows(flows=[flow(1)])


def test_a_flow_that_ends_as_it_was_told_of_is_left_out() -> None:
    clock = Clock()
    reporter = FlowReporter(clock, seconds=5)
    assert told(reporter, flow(1)) is not None
    clock.now = 5
    assert told(reporter) == Flows()


@given(
    st.lists(st.tuples(st.dictionaries(st.integers(1, 4), st.integers(0, 3)), st.integers(0, 3)))
)
def test_in_the_end_the_nco_knows_what_is_there_and_has_heard_of_every_flow(
    looks: list[tuple[dict[int, int], int]],
) -> None:
    clock = Clock()
    reporter = FlowReporter(clock, seconds=5)
    heard: dict[int, int] = {}
    known: list[Flow] = []
    for step, (there, pause) in enumerate([*looks, ({}, 5), ({}, 5), ({}, 5)]):
        message = told(reporter, *(flow(100 * step + n, sent) for n, sent in there.items()))
        if message is not None:
            known = message.flows
            heard |= {one.number: one.customizations[0].counters.sent for one in known}
        clock.now += pause
    assert known == []
    assert heard == {
        100 * step + n: sent for step, (there, _) in enumerate(looks) for n, sent in there.items()
    }


def test_a_clock_that_is_read_anew_is_no_change() -> None:
    clock = Clock()
    reporter = FlowReporter(clock, seconds=5)
    assert told(reporter, flow(1, opened=100.0, last_sent=101.0)) is not None
    for _ in range(5):
        clock.now += 5
        assert told(reporter, flow(1, opened=100.01, last_sent=100.99)) is None


def test_a_new_session_begins_with_a_snapshot() -> None:
    clock = Clock()
    reporter = FlowReporter(clock, seconds=5)
    told(reporter, flow(1))
    reporter.connected()
    assert told(reporter, flow(1)) == Flows(flows=[flow(1)])


def test_the_newest_are_told_and_the_rest_counted() -> None:
    message = message_of(flow(n, executable="/" + "x" * 4000) for n in range(2 * MAX_FLOWS))
    assert message.flows[0].number == 2 * MAX_FLOWS - 1
    assert len(message.flows) + message.omitted == 2 * MAX_FLOWS
    assert all(len(one.executable or "") == MAX_EXECUTABLE for one in message.flows)
    assert len(encode(dump(message))) < MAX_FLOWS_BYTES + 1024
    assert isinstance(parse(FROM_AGENT, dump(message)), Flows)


@given(st.lists(st.integers(0, 3), max_size=50))
def test_a_pace_is_never_exceeded(steps: list[int]) -> None:
    clock = Clock()
    pace = Pace(2.0, clock)
    sent: list[float] = []
    for step in steps:
        clock.now += step
        if pace.due():
            pace.sent()
            sent.append(clock.now)
    assert all(later - earlier >= 2 for earlier, later in pairwise(sent))
