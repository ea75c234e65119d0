"""Who leaves an intent, or is away, holds nobody up that can go on without him."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import Conflict
from controller.intent import Intent
from controller.phases import Phase
from controller.rotation import CUT_OFF_AFTER
from tests.unit.nco_kit import intent
from tests.unit.nco_world import LINGER, World, the
from tests.unit.test_nco_membership import BY_LABEL, SERVERS, Understood, labelled, sends_to

EVERYBODY = {"h1": "role=client", "h2": "role=client", "dns": "role=server", "dns2": "role=server"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = labelled(tmp_path, EVERYBODY)
    yield world
    world.close()


def away(world: World, name: str) -> None:
    """Let an agent go that does not come back by itself; what its host sends goes on."""
    world.disconnect(name)
    world.hosts[name].gone = True


def back(world: World, name: str) -> None:
    world.hosts[name].gone = False
    world.now += 2
    world.run_down()


def later(world: World, safety: Understood | None = None) -> None:
    world.now += 2
    world.run_down(safety)


def unlabel(world: World, name: str) -> None:
    world.nco.label_host(name, set(), {EVERYBODY[name]})


def modules(world: World, *names: str) -> set[str]:
    return {c.module for name in names for c in world.hosts[name].applied.values()}


def two_waves_of_a_rotation(world: World) -> None:
    """Have M2 understood and sent everywhere; M1 is to stop."""
    world.nco.rotate("one", "other")
    world.settle()
    world.build()
    for _ in range(2):
        world.settle()
        for name in EVERYBODY:
            world.answer(name)


@pytest.mark.parametrize("host", ["h2", "dns2"])
@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.RECEIVE, Phase.SEND])
def test_a_wave_does_not_wait_for_who_leaves_before_he_confirms(
    world: World, host: str, phase: Phase
) -> None:
    """A rotation: M2 goes up, and M1 goes down once M2 is active."""
    safety = Understood(world)
    world.nco.rotate("one", "other")
    world.settle()
    others = [name for name in EVERYBODY if name != host]
    if phase != Phase.BUILDING:
        world.build()
        world.settle()
    if phase == Phase.SEND:
        for name in EVERYBODY:
            world.answer(name)
        world.settle()
    away(world, host)
    for name in others:
        while world.hosts[name].inbox:
            world.answer(name)
    world.settle()
    assert the(world).deployments[-1].phase == phase
    unlabel(world, host)
    later(world, safety)
    assert (the(world).phase, the(world).module) == (Phase.ACTIVE, "other")
    assert {c.module for c in world.hosts["h1"].applied.values() if c.send} == {"other"}
    if host == "dns2":
        assert modules(world, *others) == {"other"}, "it sends nothing"
    else:
        assert modules(world, "dns", "dns2") == {"idle", "other"}, "it may still send"
    back(world, host)
    safety.check()
    assert not world.hosts[host].applied
    assert modules(world, *others) == {"other"}
    assert [one.kind for one in the(world).deployments] == ["rotation"]


def test_a_server_that_left_and_is_away_keeps_no_client_from_the_next(world: World) -> None:
    unlabel(world, "dns2")
    later(world)
    away(world, "dns")
    unlabel(world, "dns")
    world.nco.label_host("dns2", {"role=server"}, set())
    later(world)
    assert sends_to(world, "h1") == sends_to(world, "h2") == {SERVERS["dns2"]}
    assert world.nco.waiting(the(world)).keys() == {"dns"}, "its removal is owed"
    back(world, "dns")
    assert not world.hosts["dns"].applied
    assert world.nco.waiting(the(world)) == {}


def test_who_gets_the_label_back_while_he_is_away_keeps_nobody_out(world: World) -> None:
    unlabel(world, "h1")
    later(world)
    away(world, "h2")
    unlabel(world, "h2")
    later(world)
    world.nco.label_host("h2", {"role=client"}, set())
    world.nco.label_host("h1", {"role=client"}, set())
    later(world)
    assert sends_to(world, "h1") == set(SERVERS.values())
    back(world, "h2")
    assert sends_to(world, "h2") == set(SERVERS.values())
    assert len(world.hosts["h2"].applied) == 2


def test_only_who_sends_has_to_say_that_it_stopped(world: World) -> None:
    """A server that is away understands until it is back; all others are done with it."""
    away(world, "dns")
    world.nco.revoke("one")
    later(world)
    assert not any(world.hosts[name].applied for name in ("h1", "h2", "dns2"))
    assert the(world).phase == Phase.REMOVE
    assert "taken away when it is back" in world.nco.waiting(the(world))["dns"]
    with pytest.raises(Conflict, match="dns: its agent is not connected"):
        world.nco.apply(Intent.model_validate(BY_LABEL))
    elsewhere = intent("two", client=[{"host": "h1"}], server=[{"host": "dns2"}])
    assert world.nco.apply(Intent.model_validate(elsewhere)), "h1 has nothing of it any more"
    back(world, "dns")
    assert world.phase("one") == Phase.GONE
    assert not world.hosts["dns"].applied


def test_a_sender_that_is_away_is_understood_until_it_is_back_or_forgotten(world: World) -> None:
    safety = Understood(world)
    away(world, "h2")
    world.nco.revoke("one")
    for _ in range(10):
        later(world, safety)
        world.now += 10 * LINGER
    assert sends_to(world, "h2") == set(SERVERS.values())
    assert not sends_to(world, "h1")
    assert modules(world, "dns", "dns2") == {"idle"}
    assert "may still send" in world.nco.waiting(the(world))["h2"]
    world.nco.forget_host("h2")
    later(world)
    assert world.phase("one") == Phase.GONE
    assert not any(world.hosts[name].applied for name in ("h1", "dns", "dns2"))
    back(world, "h2")
    assert not world.hosts["h2"].applied


def test_the_next_rotation_does_not_wait_for_a_removal_that_is_owed(world: World) -> None:
    two_waves_of_a_rotation(world)
    world.settle()
    away(world, "dns2")
    later(world)
    assert [one.phase for one in the(world).deployments] == [Phase.REMOVE, Phase.ACTIVE]
    assert modules(world, "h1", "h2", "dns") == {"other"}
    world.nco.rotate("one", "idle")
    later(world)
    assert the(world).deployments[-1].phase == Phase.RECEIVE, "that one waits"
    back(world, "dns2")
    assert modules(world, *EVERYBODY) == {"idle"}
    assert len(the(world).deployments) == 1


def others_answer(world: World, silent: str, safety: Understood | None = None) -> None:
    """Let everybody answer but one, who is connected and does not."""
    for _ in range(4):
        world.settle()
        for name in EVERYBODY:
            while name != silent and world.hosts[name].inbox:
                world.answer(name)
                if safety:
                    safety.check()
        world.now += LINGER


def test_a_host_that_is_left_out_is_waited_for_a_while_to_stop(world: World) -> None:
    """It may be well, and only slow."""
    safety = Understood(world)
    world.nco.leave_out("one", "h2", "a test")
    world.nco.revoke("one")
    others_answer(world, "h2", safety)
    assert sends_to(world, "h2") == set(SERVERS.values())
    safety.check()
    later(world, safety)
    assert world.phase("one") == Phase.GONE


def test_a_host_that_is_left_out_and_never_answers_keeps_nobody(world: World) -> None:
    world.nco.leave_out("one", "h2", "a test")
    world.nco.revoke("one")
    others_answer(world, "h2")
    world.now += CUT_OFF_AFTER
    others_answer(world, "h2")
    assert not any(world.hosts[name].applied for name in ("h1", "dns", "dns2"))
    assert world.nco.waiting(the(world)).keys() == {"h2"}


def next_look(world: World) -> float:
    """Return how long it is until time alone changes something."""
    settled = world.nco.settle()
    if settled.store is not None:
        world.database.submit(settled.store).result()
    world.nco.committed()
    assert settled.delay is not None
    return settled.delay


def test_it_is_looked_again_when_the_while_is_over(world: World) -> None:
    world.nco.leave_out("one", "h2", "a test")
    world.nco.revoke("one")
    others_answer(world, "h2")
    assert 0 < next_look(world) <= CUT_OFF_AFTER


def rotated(world: World, silent: str) -> None:
    """Have M2 everywhere, and M1 wait for one host to stop."""
    two_waves_of_a_rotation(world)
    others_answer(world, silent)
    assert [one.phase for one in the(world).deployments] == [Phase.STOP_SEND, Phase.ACTIVE]


def test_what_was_superseded_does_not_wait_for_who_is_left_out_meanwhile(world: World) -> None:
    rotated(world, "h2")
    assert modules(world, "h2") == {"idle", "other"}
    new = next(c for c in world.hosts["h2"].applied.values() if c.module == "other")
    world.nco.challenge_failed("h2", new.id, "no answer")
    others_answer(world, "h2")
    world.now += CUT_OFF_AFTER
    others_answer(world, "h2")
    assert modules(world, "h1", "dns", "dns2") == {"other"}
    assert the(world).phase == Phase.ACTIVE


def test_where_one_side_is_lost_nobody_waits_for_who_does_not_answer(world: World) -> None:
    """Both clients fail their challenges; one of them says nothing any more."""
    world.nco.revoke("one")
    later(world)
    world.nco.apply(Intent.model_validate(intent("one", client=[{"host": "h1"}, {"host": "h2"}])))
    later(world)
    for name in ("h1", "h2"):
        item = next(iter(world.hosts[name].applied))
        world.nco.challenge_failed(name, item, "no answer")
    others_answer(world, "h2")
    world.now += CUT_OFF_AFTER
    others_answer(world, "h2")
    assert not any(world.hosts[name].applied for name in ("h1", "dns", "dns2"))
    assert "challenge failed" in str(the(world).error)


def test_a_policy_cuts_off_who_is_away_when_the_old_one_is_to_stop(world: World) -> None:
    world.nco.revoke("one")
    later(world)
    world.nco.apply(Intent.model_validate({**BY_LABEL, "rotation": {"cut_off": True}}))
    later(world)
    rotated(world, "h2")
    away(world, "h2")
    for _ in range(3):
        world.now += CUT_OFF_AFTER
        later(world)
    assert the(world).left_out == {"h2": "cut off: it kept a rotation up"}
    assert modules(world, "h1", "dns", "dns2") == {"other"}
    world.nco.rotate("one", "idle")
    later(world)
    assert modules(world, "h1", "dns", "dns2") == {"idle"}
    back(world, "h2")
    assert not world.hosts["h2"].applied
