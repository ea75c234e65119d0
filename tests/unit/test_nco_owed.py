"""What is owed to a host that is away is in nobody's way, whatever the order of things."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import Conflict
from controller.intent import Intent
from controller.phases import Phase
from controller.rotation import CUT_OFF_AFTER, in_transition
from tests.unit.nco_kit import intent
from tests.unit.nco_world import World, the
from tests.unit.test_nco_leaving import EVERYBODY, away, back, later, modules
from tests.unit.test_nco_membership import BY_LABEL, labelled


def joined_late(folder: Path, **intent: object) -> World:
    """Return a world in which h2 has joined, in a deployment of its own."""
    world = labelled(folder, {**EVERYBODY, "h2": "role=none"})
    if intent:
        world.nco.revoke("one")
        later(world)
        world.nco.apply(Intent.model_validate({**BY_LABEL, **intent}))
        later(world)
    world.nco.label_host("h2", {"role=client"}, set())
    later(world)
    return world


def answered(world: World) -> None:
    """Two waves of a rotation: M2 is understood and sent, and M1 is to stop."""
    for _ in range(2):
        world.settle()
        for name in world.hosts:
            while world.hosts[name].inbox:
                world.answer(name)
    world.settle()


def test_a_deployment_whose_hosts_are_all_cut_off_holds_up_nobody(tmp_path: Path) -> None:
    world = joined_late(tmp_path, rotation={"cut_off": True})
    world.nco.rotate("one", "other")
    world.settle()
    world.build()
    answered(world)
    away(world, "h2")
    for _ in range(3):
        world.now += CUT_OFF_AFTER
        later(world)
    assert "h2" in the(world).left_out
    assert not in_transition(the(world))
    world.add_host("h3", "10.10.0.9")
    world.connect("h3")
    world.nco.label_host("h3", {"role=client"}, set())
    later(world)
    assert modules(world, "h3") == {"other"}
    world.nco.rotate("one", "idle")
    world.close()


@pytest.mark.parametrize("how", ["forgotten", "unlabelled", "left out"])
def test_what_waited_for_a_deployment_goes_on_when_that_vanishes(tmp_path: Path, how: str) -> None:
    world = joined_late(tmp_path)
    world.nco.activate("one", False)
    later(world)
    away(world, "h2")
    later(world)
    world.nco.activate("one")
    later(world)
    assert the(world).deployments[0].phase == Phase.RECEIVE
    if how == "forgotten":
        world.nco.forget_host("h2")
    elif how == "unlabelled":
        world.nco.label_host("h2", set(), {"role=client"})
    else:
        world.nco.leave_out("one", "h2", "test")
    for _ in range(3):
        world.now += CUT_OFF_AFTER
        later(world)
    assert the(world).phase == Phase.ACTIVE
    world.close()


def test_who_confirmed_a_removal_is_not_asked_again(tmp_path: Path) -> None:
    world = labelled(tmp_path, EVERYBODY)
    away(world, "dns")
    world.nco.revoke("one")
    later(world)
    away(world, "h1")
    later(world)
    assert set(world.nco.waiting(the(world))) == {"dns"}
    back(world, "dns")
    assert world.cib.intent("one") is None or world.phase("one") == Phase.GONE
    world.close()


def test_another_change_of_a_host_brings_no_removal_back(tmp_path: Path) -> None:
    """Else intents that follow each other would be taken for two at a time."""
    world = labelled(tmp_path, EVERYBODY)
    away(world, "dns")
    world.nco.revoke("one")
    later(world)
    ends = {"client": [{"host": "h1"}], "server": [{"host": "dns2"}]}
    world.nco.apply(Intent.model_validate(intent("two", **ends)))
    later(world)
    world.nco.apply(Intent.model_validate(intent("three", port=5353, **ends)))
    world.settle()
    world.build()
    world.settle()
    assert world.hosts["h1"].inbox, "it has not answered"
    world.nco.rotate("two", "other")
    world.close()


def test_an_intent_that_is_not_followed_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = labelled(tmp_path, {"h1": "role=client", "dns": "role=server"})
    world.nco.label_host("h2", {"role=client"}, set())
    world.now += 2
    world.settle()
    world.build()
    world.settle()
    world.now += 2

    def refuse(*_: object, **__: object) -> None:
        raise Conflict("made up")

    monkeypatch.setattr(world.nco.planner, "plan_again", refuse)
    world.answer("h2", refuse=True)
    settled = world.nco.settle()
    if settled.store:
        world.database.submit(settled.store).result()
    world.nco.committed()
    assert the(world).unfollowed == "made up"
    assert settled.delay == 0
    world.close()
