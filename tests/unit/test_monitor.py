"""What the monitor makes of what it sees: flows, counters, alerts, all over a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import monitor_queries
from controller.challenger import Outcome, Subject, Verdict
from controller.errors import NotFound
from controller.events import Filter
from controller.history import Event as IntentEvent
from controller.monitor import AWAY_SECONDS, Watched
from controller.monitor_alerts import Alerts
from controller.monitor_flows import FlowTable
from controller.monitor_kinds import Alarm, Kind
from controller.monitor_queries import Rows
from controller.phases import Phase
from tests.unit.monitor_kit import World, flow, hello, report, world
from wire.messages import Flows


def flows_query(**wanted: Any) -> Any:  # noqa: ANN401
    everything = {"host": None, "intent": None, "process": None}
    bounds = {"only_open": False, "since": 0.0, "limit": 100}
    return monitor_queries.flows(**{**everything, **bounds, **wanted})


async def counters(there: World, intent: str = "tag") -> Rows:
    rows: Rows = await there.read(monitor_queries.counters(intent, since=0.0, limit=100))
    return rows


ALERTS = Filter(frozenset({Kind.ALERT}))


def kinds(there: World) -> list[tuple[Alarm, str]]:
    return [(alert.kind, alert.subject) for alert in there.monitor.alerts.raised()]


# -- flows


def test_a_flow_is_stored_with_its_owner_and_ends_when_it_is_no_longer_told_of(
    database_url: str,
) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.monitor.flows_reported("h1", Flows(flows=[flow(1, "a"), flow(2, "a", "b")]))
            there.clock.now += 5
            there.monitor.flows_reported("h1", Flows(flows=[flow(2, "a", "b", sent=3)]))
            second, first = sorted(await there.read(flows_query()), key=lambda r: -r["number"])
            assert (first["ended"], second["ended"]) == (there.clock.now, None)
            assert (first["process"], first["uid"], first["remote_port"]) == ("dig", 0, 53)
            assert second["intents"].split() == ["tag", "compress"]
            assert second["customizations"][0]["counters"]["sent"] == 3
            assert there.monitor.flows.open == 1

    asyncio.run(play())


def test_a_flow_stays_one_when_its_agent_restarts(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            for opened in (100.0, 100.02, 100.01):
                there.monitor.flows_reported("h1", Flows(flows=[flow(1, "a", opened=opened)]))
            assert [row["opened"] for row in await there.read(flows_query())] == [100.0]

    asyncio.run(play())


def test_flows_are_found_by_host_intent_and_process(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.monitor.flows_reported("h1", Flows(flows=[flow(1, "a")]))
            there.monitor.flows_reported("dns", Flows(flows=[flow(2, "b", process="dnsmasq")]))
            there.monitor.flows_reported("h1", Flows())
            for wanted, numbers in (
                ({"host": "h1"}, [1]),
                ({"intent": "compress"}, [2]),
                ({"intent": "compres_"}, []),
                ({"process": "dnsmasq"}, [2]),
                ({"process": "isc-net-0000", "host": "h1"}, [1]),
                ({"only_open": True}, [2]),
                ({"since": there.clock.now + 1}, []),
            ):
                rows = await there.read(flows_query(**wanted))
                assert [row["number"] for row in rows] == numbers, wanted

    asyncio.run(play())


def test_flows_that_ended_while_the_service_was_away_end_with_the_first_snapshot(
    database_url: str,
) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.monitor.flows_reported("h1", Flows(flows=[flow(1, "a"), flow(2, "a")]))
            keys = await there.read(monitor_queries.open_flows)
            again = World(there.database, there.clock)
            again.monitor.flows.restore(keys)
            assert again.monitor.flows.open == 2
            again.monitor.flows_reported("h1", Flows(flows=[flow(2, "a")]))
            rows = await again.read(flows_query(only_open=True))
            assert [row["number"] for row in rows] == [2]

    asyncio.run(play())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["h1", "h2", "h3"]), st.sets(st.integers(1, 12)))))
def test_no_more_flows_are_kept_track_of_than_there_is_room(
    told: list[tuple[str, set[int]]],
) -> None:
    class Nowhere:
        def put(self, *_: object) -> bool:
            return True

    table = FlowTable(Nowhere(), lambda: 0.0, lambda *_: None, room=10)  # type: ignore[arg-type]
    for host, numbers in told:
        table.told(host, Flows(flows=[flow(number, "a") for number in sorted(numbers)]))
        assert 0 <= table.open <= 10
        assert table.open == sum(map(len, table._open.values()))
    for host in ("h1", "h2", "h3"):
        table.told(host, Flows())
    assert (table.open, table._open) == (0, {})


# -- counters


def test_counters_are_sampled_when_it_is_time_and_only_if_they_counted(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.monitor.reported("h1", report("a", "b", sent=1))
            there.monitor.look()
            assert await counters(there) == []
            for _ in range(3):
                there.clock.now += 60
                there.monitor.look()
            there.monitor.reported("h1", report("a", "b", sent=5))
            there.clock.now += 60
            there.monitor.look()
            samples = await counters(there)
            assert [row["counters"]["sent"] for row in samples] == [1, 5]
            assert {(row["host"], row["intent"]) for row in samples} == {("h1", "tag")}

    asyncio.run(play())


def test_what_is_taken_away_leaves_its_last_counters(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.monitor.reported("h1", report("a", sent=7))
            assert there.monitor.counters.by_intent()["tag"]["sent"] == 7
            there.monitor.reported("h1", report())
            (sample,) = await counters(there)
            assert sample["counters"]["sent"] == 7
            assert there.monitor.counters.by_intent() == {}

    asyncio.run(play())


# -- alerts


def test_a_host_with_customizations_that_stays_away_is_an_alert_until_it_is_back(
    database_url: str,
) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.network.wanted, there.network.away = {"h1"}, {"h1", "idle"}
            there.monitor.look()
            there.clock.now += AWAY_SECONDS - 1
            there.monitor.look()
            assert kinds(there) == [], "an agent that restarts is no alert"
            there.clock.now += 1
            there.monitor.look()
            there.monitor.look()
            assert kinds(there) == [(Alarm.HOST_LOST, "h1")]
            there.network.away = set()
            there.monitor.look()
            assert kinds(there) == []
            (past,) = await there.read(monitor_queries.cleared_alerts(10))
            assert (past.subject, past.cleared) == ("h1", there.clock.now)
            found = await there.read(monitor_queries.newest_events(ALERTS, limit=10))
            assert [event.text.split(":")[0] for event in found] == [
                "host-lost raised",
                "host-lost cleared",
            ]

    asyncio.run(play())


def test_a_restart_keeps_alerts_and_raises_none_twice(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.network.wanted = there.network.away = {"h1"}
            there.monitor.look()
            there.clock.now += AWAY_SECONDS
            there.monitor.look()
            raised = await there.read(monitor_queries.raised_alerts)
            again = World(there.database, there.clock)
            again.network = there.network
            again.monitor._network = there.network
            again.monitor.alerts.restore(raised)
            again.monitor.look()
            assert again.monitor.alerts.raised() == raised

    asyncio.run(play())


def test_a_refusal_is_an_alert_until_a_newer_generation_is_in_force(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            refusal = report(generation=3, refused=4, error="the verifier says no")
            there.monitor.reported("h1", refusal)
            there.monitor.reported("h1", refusal)
            (alert,) = there.monitor.alerts.raised()
            assert (alert.kind, alert.subject) == (Alarm.REFUSED, "h1")
            assert "the verifier says no" in alert.text
            there.monitor.reported("h1", report(generation=5, refused=4))
            assert kinds(there) == []

    asyncio.run(play())


@pytest.mark.parametrize("alarm", [Alarm.MIRROR, Alarm.UNFOLLOWED])
def test_what_an_intent_lacks_is_an_alert_until_it_has_it(database_url: str, alarm: Alarm) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            lacks = {Alarm.MIRROR: there.network.mirrors, Alarm.UNFOLLOWED: there.network.lost}
            lacks[alarm]["tag"] = "on another switch"
            there.monitor.look()
            assert kinds(there) == [(alarm, "tag")]
            (event,) = await there.read(monitor_queries.newest_events(ALERTS, limit=10))
            assert (event.intent, event.host) == ("tag", None)
            lacks[alarm].clear()
            there.monitor.look()
            assert kinds(there) == []

    asyncio.run(play())


def test_an_authority_that_expires_soon_is_an_alert_until_it_is_replaced(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            for _ in range(2):
                there.monitor.authorities_watched({"L45 NCO CA": "it expires in 100 days"})
            assert kinds(there) == [(Alarm.CA, "L45 NCO CA")]
            (event,) = await there.read(monitor_queries.newest_events(ALERTS, limit=10))
            assert (event.intent, event.host) == (None, None)
            there.monitor.authorities_watched({})
            assert kinds(there) == []

    asyncio.run(play())


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_challenge_that_failed_is_an_alert(database_url: str, verdict: Verdict) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            subject = Subject(
                *("h1", "a" * 32, "tag", "idle", "bpf", "0" * 64, "6.1"), key=b"", every=None
            )
            there.monitor.challenged(Outcome(subject, verdict, "no answer came"))
            failed = [] if verdict is Verdict.PASSED else [(Alarm.CHALLENGE, "a" * 32)]
            assert kinds(there) == failed

    asyncio.run(play())


def test_an_operator_clears_what_nothing_else_does(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            alerts = there.monitor.alerts
            alerts.raise_alert(Alarm.CHALLENGE, "a" * 32, "no answer", host="h1")
            with pytest.raises(NotFound):
                alerts.clear_by_hand(1)
            alerts.clear_by_hand(alerts.raised()[0].id)
            assert alerts.raised() == []

    asyncio.run(play())


def test_alerts_are_bounded(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            alerts = Alerts(there.recorder, there.events, there.clock, room=2)
            for number in range(5):
                alerts.raise_alert(Alarm.REFUSED, f"h{number}", "")
            assert (len(alerts.raised()), alerts.omitted) == (2, 3)

    asyncio.run(play())


# -- what happens


def test_what_happens_to_an_intent_is_an_event_with_its_time(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            there.monitor.intent_event("tag", IntentEvent(2e6, Phase.SEND, "h1", "confirmed"))
            (event,) = await there.read(monitor_queries.newest_events(Filter(), limit=10))
            assert (event.at, event.intent, event.host) == (2e6, "tag", "h1")
            assert (event.phase, event.text) == ("send", "confirmed")

    asyncio.run(play())


class Orchestrator:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return lambda *_: self.calls.append(name)


def test_a_connection_that_was_replaced_is_no_host_lost(database_url: str) -> None:
    async def play() -> None:
        async with world(database_url) as there:
            orchestrator: Any = Orchestrator()
            watched = Watched(orchestrator, there.monitor)
            old: Any = object()
            new: Any = object()
            watched.connected(old, hello("h1"))
            watched.connected(new, hello("h1"))
            watched.reported("h1", old, report("a"))
            watched.disconnected("h1", old)
            assert there.monitor.counts.lost == 0
            assert there.monitor.counters.customizations == 0, "what the old one says is old"
            watched.reported("h1", new, report("a"))
            watched.flows_reported("h1", new, Flows(flows=[flow(1, "a")]))
            watched.disconnected("h1", new)
            assert there.monitor.counts.lost == 1
            assert (there.monitor.counters.customizations, there.monitor.flows.open) == (1, 1)
            assert orchestrator.calls.count("disconnected") == 2

    asyncio.run(play())
