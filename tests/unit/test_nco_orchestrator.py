"""The orchestrator over a real CIB: the order of receive and send, whatever happens in between.

Hypothesis lets agents answer late, refuse, come and go, operators apply and revoke, builds fail and
the service be killed, in any order; the promise (nobody sends what is not understood) is checked
after every step on what the *hosts* really have, not on what the orchestrator believes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import plan_checks
from controller.cib import GONE_KEPT
from controller.errors import Conflict, NotFound, Unavailable
from controller.intent import Intent
from controller.phases import TRANSITIONS, Phase, PhaseError, checked
from tests.unit.nco_kit import intent
from tests.unit.nco_world import HOSTS, INTENTS, LINGER, Host, Safety, World, each


def happen(world: World, what: str, argument: str) -> None:
    """Let one thing happen."""
    if what == "apply":
        with suppress(Conflict):
            world.nco.apply(INTENTS[argument])
    elif what == "revoke":
        with suppress(NotFound):
            world.nco.revoke(argument)
    else:
        world.happen(what, argument)


EVENTS = [
    *(3 * each("answer", HOSTS)),
    *each("refuse", HOSTS),
    *each("come or go", HOSTS),
    *each("apply", INTENTS),
    *(2 * each("revoke", INTENTS)),
    *each("build", ["", ""]),
    *each("build fails", [""]),
    *each("wait", ["1.0", str(LINGER)]),
    *each("kill the service", [""]),
]
STEPS = st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from([True, True, False])))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(begin=st.sampled_from(["nothing", "deploying", "active"]), steps=STEPS)
def test_nobody_sends_what_is_not_understood_whatever_happens(
    begin: str, steps: list[tuple[tuple[str, str], bool]]
) -> None:
    with tempfile.TemporaryDirectory(prefix="l45-test-") as folder:
        world = World(Path(folder))
        safety = Safety(world)
        world.run_down()
        if begin != "nothing":
            for wanted in INTENTS.values():
                world.nco.apply(wanted)
            world.build()
        if begin == "active":
            world.run_down()
        for (what, argument), settled in steps:
            happen(world, what, argument)
            safety.check()
            if settled:
                world.settle()
        for row in world.cib.intents():
            with suppress(NotFound):
                world.nco.revoke(row.name)
        world.run_down(safety)
        assert world.cib.intents() == []
        assert not any(host.applied for host in world.hosts.values())
        world.close()


@pytest.fixture
def world(tmp_path: Path, database_url: str) -> Iterator[World]:
    world = World(tmp_path, database_url)
    for name in HOSTS:
        world.connect(name)
    yield world
    world.close()


def test_all_go_up_and_come_down(world: World) -> None:
    for wanted in INTENTS.values():
        assert world.nco.apply(wanted)
    world.run_down()
    assert [world.phase(name) for name in INTENTS] == [Phase.ACTIVE, Phase.ACTIVE]
    assert {
        host.name for host in world.hosts.values() for c in host.applied.values() if c.send
    } == {
        "h1",
        "h2",
    }
    assert not world.nco.apply(INTENTS["one"])
    world.nco.revoke("one")
    world.run_down()
    assert world.phase("one") == Phase.GONE
    assert {c.intent for c in world.hosts["dns"].applied.values()} == {"two"}


def test_history_tells_who_confirmed_and_who_was_lost(world: World) -> None:
    world.nco.apply(INTENTS["two"])
    world.run_down()
    told = [(e.phase, e.host) for e in world.nco.history.of("two")]
    assert told == [
        (Phase.BUILDING, None),
        (Phase.RECEIVE, None),
        (Phase.RECEIVE, "dns"),
        (Phase.RECEIVE, "h1"),
        (Phase.SEND, None),
        (Phase.SEND, "dns"),
        (Phase.SEND, "h1"),
        (Phase.ACTIVE, None),
    ]
    world.disconnect("dns")
    world.settle()
    world.run_down()
    assert [(e.host, e.text.split(":")[0]) for e in world.nco.history.of("two")[len(told) :]] == [
        ("dns", "no longer confirmed"),
        ("dns", "confirmed"),
    ]
    times = [event.at for event in world.nco.history.of("two")]
    assert times == sorted(set(times)), "each event has its own, later time"


def test_history_says_nothing_of_what_is_merely_sent_again(world: World) -> None:
    world.nco.apply(INTENTS["two"])
    world.run_down()
    told = world.nco.history.of("two")
    number = world.hosts["dns"].generation
    world.nco.apply(INTENTS["one"])
    world.run_down()
    assert world.hosts["dns"].generation > number, "it was sent what it has of 'two' again"
    assert world.nco.history.of("two") == told
    world.kill()
    world.run_down()
    assert world.nco.history.of("two") == [], "a new service begins with all hosts away"


def test_history_tells_of_a_host_that_refuses_what_it_is_sent_again(world: World) -> None:
    world.nco.apply(INTENTS["two"])
    world.run_down()
    told = world.nco.history.of("two")
    host = world.hosts["dns"]
    host.applied = {}  # the host was rebooted, and cannot have it any more
    world.nco.prioritize("two", 50)
    world.settle()
    world.answer("dns", refuse=True)
    world.settle()
    lost = [(e.host, e.text) for e in world.nco.history.of("two")[len(told) :]]
    assert lost[0] == (None, "priority 50")
    assert lost[1][0] == "dns"
    assert lost[1][1].startswith("no longer confirmed: it refuses generation")
    world.now += 1000
    world.run_down()
    assert [(e.host, e.text) for e in world.nco.history.of("two")][-1] == ("dns", "confirmed")


def test_one_silent_host_keeps_everyone_from_sending(world: World) -> None:
    world.nco.apply(INTENTS["one"])
    world.build()
    world.settle()
    for name in ("h1", "h2"):
        while world.hosts[name].inbox:
            world.answer(name)
    world.settle()
    row = world.cib.intent("one")
    assert row is not None
    assert row.phase == Phase.RECEIVE
    assert list(world.nco.waiting(row)) == ["dns"]
    world.disconnect("dns")
    assert "not connected" in world.nco.waiting(row)["dns"]


def test_a_refusal_fails_only_what_is_new(world: World) -> None:
    world.nco.apply(INTENTS["one"])
    world.run_down()
    world.nco.apply(INTENTS["two"])
    world.build()
    world.settle()
    world.answer("dns", refuse=True)
    world.run_down()
    assert world.phase("one") == Phase.ACTIVE
    assert world.phase("two") == Phase.FAILED
    row = world.cib.intent("two")
    assert row is not None
    assert row.error == "host dns: it does not fit"
    assert {c.intent for c in world.hosts["dns"].applied.values()} == {"one"}


def test_a_host_that_refuses_a_removal_is_asked_again(world: World) -> None:
    world.nco.apply(INTENTS["two"])
    world.run_down()
    world.nco.revoke("two")
    world.settle()
    world.answer("h1", refuse=True)
    assert world.phase("two") == Phase.STOP_SEND
    world.run_down()
    assert world.phase("two") == Phase.GONE


def test_an_old_report_confirms_nothing(world: World) -> None:
    """A host that still has a `send` on its way to it is not taken for one that does not send."""
    world.run_down()
    world.nco.apply(INTENTS["two"])
    world.build()
    world.settle()
    for name in ("dns", "h1"):
        world.answer(name)
    world.settle()
    assert world.phase("two") == Phase.SEND
    world.nco.revoke("two")
    world.settle()
    assert world.phase("two") == Phase.STOP_SEND
    (send, stop) = world.hosts["h1"].inbox
    assert [c.send for c in (*send.customizations, *stop.customizations)] == [True, False]
    world.answer("h1")
    world.settle()
    assert world.phase("two") == Phase.STOP_SEND
    world.answer("h1")
    world.settle()
    assert world.phase("two") == Phase.DRAIN


def test_a_reapplied_intent_gets_new_identifiers(world: World) -> None:
    seen: list[set[str]] = []
    for _ in range(2):
        world.nco.apply(INTENTS["one"])
        world.run_down()
        seen.append(set(world.hosts["dns"].applied) | set(world.hosts["h1"].applied))
        world.nco.revoke("one")
        world.run_down()
    assert seen[0]
    assert seen[0].isdisjoint(seen[1])


def test_a_host_that_is_ahead_of_our_memory_is_numbered_on(world: World) -> None:
    world.disconnect("h1")
    world.hosts["h1"].generation = 1000
    world.connect("h1")
    world.settle()
    assert world.hosts["h1"].inbox[-1].generation > 1000


def test_a_host_that_refused_what_we_do_not_remember_is_numbered_on(world: World) -> None:
    """An agent ignores what is older than the newest it heard of, also where it refused that."""
    world.run_down()
    host = world.hosts["h1"]
    world.nco.reported("h1", host, host.report(refused=1000))
    world.settle()
    (desired,) = host.inbox
    assert desired.generation > 1000
    world.answer("h1")
    world.settle()
    assert host.inbox == [], "once is enough"


def test_of_the_gone_only_the_latest_are_kept(world: World) -> None:
    for number in range(GONE_KEPT + 3):
        name = f"i{number}"
        world.nco.apply(Intent.model_validate(intent(name)))
        world.nco.revoke(name)
        world.settle()
    assert [world.phase(f"i{number}") for number in (0, 2, 3)] == [None, None, Phase.GONE]


def test_more_mirrors_than_switches_can_be_asked_for_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_checks, "MAX_MIRRORS", 1)
    mirrored = [intent(name, middlebox={"host": "h2"}) for name in ("one", "two")]
    world.nco.apply(Intent.model_validate({**mirrored[0], "port": 53}))
    with pytest.raises(Conflict, match="would have 2 mirrors, at most 1"):
        world.nco.apply(Intent.model_validate({**mirrored[1], "port": 54}))
    world.nco.apply(INTENTS["two"])


def test_a_newer_connection_takes_over(world: World) -> None:
    closed: list[str] = []

    class Old(Host):
        def refuse(self, reason: str) -> None:
            closed.append(reason)

    old, new = Old("h9"), Host("h9")
    hello = world.hosts["h1"].hello().model_copy(update={"host": "h9"})
    world.nco.connected(old, hello)
    world.nco.connected(new, hello)
    assert closed == ["another agent connected as 'h9'"]
    world.nco.disconnected("h9", old)
    world.nco.reported("h9", old, old.report())
    now = world.nco.now("h9")
    assert now.connected, "the old connection's end says nothing about the new one"
    assert now.report is None


def test_steering_follows_the_intents_and_its_number_only_grows(world: World) -> None:
    generations = [world.nco.steering().generation]
    spec = intent("one", middlebox={"host": "h2"})
    world.nco.apply(Intent.model_validate(spec))
    world.run_down()
    (mirror,) = world.nco.steering().mirrors
    assert (mirror.server, mirror.port, mirror.middlebox) == ("10.10.0.3", 53, "10.10.0.2")
    assert world.nco.steering().control == ("10.10.0.5", 4545)
    generations.append(world.nco.steering().generation)
    world.kill()
    world.settle()
    generations.append(world.nco.steering().generation)
    world.nco.revoke("one")
    world.run_down()
    generations.append(world.nco.steering().generation)
    assert world.nco.steering().mirrors == []
    assert generations == sorted(generations)
    assert len(set(generations)) == 3, "a restart alone changes nothing"


def test_artifacts_are_for_hosts_that_need_them(world: World) -> None:
    world.nco.apply(INTENTS["two"])
    world.run_down()
    (digest,) = {c.digest for c in world.hosts["dns"].applied.values()}
    assert world.nco.artifact_for("dns", digest) is not None
    assert world.nco.artifact_for("h2", digest) is None
    assert world.nco.artifact_for("dns", "0" * 64) is None


def test_the_table_of_transitions_is_closed() -> None:
    assert set(TRANSITIONS) == set(Phase)
    with pytest.raises(PhaseError):
        checked(Phase.RECEIVE, Phase.ACTIVE)


def test_what_could_not_be_committed_was_never_so(world: World) -> None:
    world.nco.apply(INTENTS["one"])
    world.settle()
    world.build()
    world.nco.apply(INTENTS["two"])
    saver = world.saver()
    before = [len(host.inbox) for host in world.hosts.values()]
    world.nco.settle()
    assert world.phase("one") == Phase.RECEIVE
    assert before == [len(host.inbox) for host in world.hosts.values()], "nobody was told"
    world.restore("the disk is full")
    assert world.phase("one") == Phase.BUILDING
    assert world.phase("two") is None
    with pytest.raises(Unavailable, match="the disk is full"):
        saver.result()
    assert world.nco.history.of("two") == []
    world.run_down()
    assert world.phase("one") == Phase.ACTIVE


def test_only_what_is_committed_is_told(world: World) -> None:
    world.nco.apply(INTENTS["one"])
    world.run_down()
    world.nco.label_host("h1", {"site=b"}, set())
    world.nco.settle()
    world.nco.deprecate("one")
    world.nco.committed()
    told = [event.text for event in world.nco.history.of("one")]
    assert "deprecated: no new sockets" not in told, "that is of the next commit"
    world.settle()
    assert "deprecated: no new sockets" in [event.text for event in world.nco.history.of("one")]


def test_what_may_never_be_so_is_not_shown(world: World) -> None:
    async def read() -> asyncio.Task[None]:
        reader = asyncio.create_task(world.nco.readable())
        await asyncio.sleep(0)
        return reader

    async def look() -> None:
        world.nco.apply(INTENTS["one"])
        world.nco.settle()
        early = await read()
        assert not early.done()
        world.nco.failed("the server is away")
        late = await read()
        assert not late.done(), "memory still has what was not committed"
        with pytest.raises(Unavailable, match="the server is away"):
            await early
        world.restore("the server is away")
        await late
        assert world.phase("one") is None

    asyncio.run(look())


def test_addresses_that_are_none_are_not_believed(world: World) -> None:
    addresses = ["10.0.0.0/8", "x", "10.10.0.77", "::1", "2001:db8::7", "fe80::1", "2001:DB8::8"]
    hello = world.hosts["h1"].hello().model_copy(update={"addresses": addresses})
    world.nco.connected(world.hosts["h1"], hello.model_copy(update={"host": "odd"}))
    assert world.cib.hosts()["odd"].facts().addresses == ("10.10.0.77", "2001:db8::7")
