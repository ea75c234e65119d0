"""Rotation: M2 takes the place of M1, and no message is lost, whatever happens in between.

Hypothesis lets hosts answer late, refuse, come and go, rotations begin and be cancelled, the
service be killed, and commits fail, in any order. After every step it is checked, on what the hosts
really have, that each host understands what its peers may send: of a successor as of what was
there before, and for the linger time after it was sent last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.errors import Conflict, Refusal
from controller.intent import Intent
from controller.model import Deployment
from controller.phases import Phase
from controller.rotation import CUT_OFF_AFTER, next_module, rotating
from tests.unit.nco_kit import intent, make_module
from tests.unit.nco_world import HOSTS, LINGER, World, each, the

MODULES = ("idle", "other", "third")
TWO_CLIENTS = intent("one", client=[{"host": "h1"}, {"host": "h2"}])


class Lossless:
    """Checks on what hosts have that what a client sends, the server understands."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[str, float] = {}
        """When a module was sent last, which may be on its way for the linger time."""

    def check(self) -> None:
        server = self._world.hosts["dns"].applied.values()
        understood = {c.module for c in server if c.receive and c.active}
        for name in ("h1", "h2"):
            for one in self._world.hosts[name].applied.values():
                if one.send and one.active:
                    assert one.module in understood, f"{name} sends {one.module}"
                    self._sent[one.module] = self._world.now
        for module, at in self._sent.items():
            assert module in understood or self._world.now >= at + LINGER, f"{module} was cut"

    def is_sent(self) -> bool:
        """Whether every client sends something: a rotation does not go through plain."""
        return all(
            any(c.send for c in self._world.hosts[name].applied.values()) for name in ("h1", "h2")
        )


def happen(world: World, what: str, argument: str) -> None:
    """Let one thing happen."""
    if what == "rotate":
        with suppress(Refusal):
            world.nco.rotate("one", argument)
    elif what == "cancel":
        with suppress(Conflict):
            world.nco.cancel_rotation("one")
    else:
        world.happen(what, argument)


EVENTS = [
    *(6 * each("answer", HOSTS)),
    *each("refuse", HOSTS),
    *each("come or go", HOSTS),
    *(2 * each("rotate", MODULES)),
    *each("cancel", [""]),
    *(3 * each("build", [""])),
    *each("build fails", [""]),
    *each("wait", ["1.0", str(LINGER)]),
    *each("kill the service", [""]),
    *each("lose the commit", [""]),
]
STEPS = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.sampled_from([True, True, True, False])), max_size=60
)


def rotated_world(folder: Path) -> World:
    for number, module in enumerate(MODULES):
        make_module(folder / "modules", module)
        manifest = folder / "modules" / module / "manifest.toml"
        manifest.write_text(manifest.read_text().replace("0x58544147", f"0x5854000{number}"))
    world = World(folder)
    world.run_down()
    world.nco.apply(Intent.model_validate(TWO_CLIENTS))
    world.run_down()
    assert world.phase("one") == Phase.ACTIVE
    return world


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_nothing_is_lost_whatever_happens(steps: list[tuple[tuple[str, str], bool]]) -> None:
    with tempfile.TemporaryDirectory(prefix="l45-test-") as folder:
        world = rotated_world(Path(folder))
        safety = Lossless(world)
        for (what, argument), settled in steps:
            happen(world, what, argument)
            safety.check()
            assert safety.is_sent(), "a rotation never goes through plain"
            if settled:
                world.settle()
        world.run_down(safety)
        state = the(world)
        assert state.phase == Phase.ACTIVE
        assert [one.phase for one in state.deployments] == [Phase.ACTIVE], "one is left"
        assert {c.module for c in world.hosts["h1"].applied.values()} == {state.module}
        world.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = rotated_world(tmp_path)
    yield world
    world.close()


def successor(world: World) -> Deployment:
    found = rotating(the(world))
    assert found is not None
    return found


def step(world: World) -> None:
    """Let everybody answer once."""
    world.settle()
    for name, host in world.hosts.items():
        if host.inbox:
            world.answer(name)


def test_the_order_is_that_of_the_dissertation(world: World) -> None:
    """M2 below M1 without sending, then above and sending, then alone."""
    seen: list[list[tuple[str, bool]]] = []

    def look() -> None:
        applied = sorted(world.hosts["h1"].applied.values(), key=lambda c: c.priority)
        now = [(c.module, c.send) for c in applied]
        if not seen or seen[-1] != now:
            seen.append(now)

    look()
    world.nco.rotate("one", "other")
    world.settle()
    world.build()
    for _ in range(12):
        step(world)
        look()
        world.now += LINGER
    assert seen == [
        [("idle", True)],
        [("idle", True), ("other", False)],
        [("other", True), ("idle", True)],
        [("other", True), ("idle", False)],
        [("other", True)],
    ]


@pytest.mark.parametrize("killed_after", range(9))
def test_it_goes_on_after_the_service_died_at_any_step(world: World, killed_after: int) -> None:
    world.nco.rotate("one", "other")
    world.settle()
    safety = Lossless(world)
    for number in range(10):
        if number == killed_after:
            world.kill()
            for name in HOSTS:
                world.connect(name)
        world.build()
        step(world)
        safety.check()
        world.now += LINGER
    world.run_down(safety)
    assert (the(world).phase, the(world).module) == (Phase.ACTIVE, "other")
    assert {c.module for host in world.hosts.values() for c in host.applied.values()} == {"other"}


def test_new_keys_alone(world: World) -> None:
    (before,) = world.hosts["h1"].applied.values()
    world.nco.rotate("one")
    world.run_down()
    (after,) = world.hosts["h1"].applied.values()
    assert after.module == before.module
    assert after.id != before.id
    assert after.key != before.key


def test_a_host_that_is_away_stops_it_before_the_old_one_goes(world: World) -> None:
    world.disconnect("h2")
    world.nco.rotate("one", "other")
    for _ in range(5):
        world.build()
        step(world)
        world.now += 10 * CUT_OFF_AFTER
    assert successor(world).phase == Phase.RECEIVE
    assert world.nco.waiting(the(world)) == {"h2": "its agent is not connected"}
    sent = [c.module for c in world.hosts["h1"].applied.values() if c.send]
    assert sent == ["idle"]
    world.nco.cancel_rotation("one")
    world.run_down()
    assert the(world).module == "idle"


def test_a_host_that_refuses_the_new_one_leaves_the_old(world: World) -> None:
    world.nco.rotate("one", "other")
    world.settle()
    world.build()
    world.settle()
    world.answer("dns", refuse=True)
    world.run_down()
    state = the(world)
    assert state.phase == Phase.ACTIVE
    assert state.module == "idle"
    assert state.error == "rotation failed: host dns: it does not fit"
    world.nco.rotate("one", "other")
    world.run_down()
    assert (the(world).module, the(world).error) == ("other", None)


def test_one_at_a_time(world: World) -> None:
    world.nco.rotate("one", "other")
    with pytest.raises(Conflict, match="is being rotated"):
        world.nco.rotate("one", "third")
    world.run_down()
    with pytest.raises(Refusal, match="nothing"):
        world.nco.rotate("one", "nothing")


def with_rotation(world: World, **rotation: object) -> None:
    world.nco.revoke("one")
    world.run_down()
    world.nco.apply(Intent.model_validate({**TWO_CLIENTS, "rotation": rotation}))
    world.run_down()


def test_a_policy_cuts_off_who_keeps_it_up(world: World) -> None:
    with_rotation(world, modules=["other"], cut_off=True)
    world.disconnect("h2")
    world.nco.rotate("one", "other")
    for _ in range(12):
        world.build()
        step(world)
        world.now += CUT_OFF_AFTER
    state = the(world)
    assert state.left_out == {"h2": "cut off: it kept a rotation up"}
    assert (state.phase, state.module) == (Phase.ACTIVE, "other")
    assert {c.module for c in world.hosts["dns"].applied.values()} == {"other"}
    world.run_down()
    assert not world.hosts["h2"].applied, "what it still had was taken away when it came back"
    world.nco.admit("one", "h2")
    world.now += 2
    world.run_down()
    assert {c.module for c in world.hosts["h2"].applied.values() if c.send} == {"other"}


def test_who_was_away_for_a_moment_is_not_cut_off(world: World) -> None:
    """Another host keeps the rotation up for longer."""
    with_rotation(world, modules=["other"], cut_off=True)
    world.nco.rotate("one", "other")
    world.settle()
    world.build()
    world.settle()
    world.answer("dns")
    world.answer("h2")
    world.now += 2 * CUT_OFF_AFTER
    world.disconnect("h2")
    world.settle()
    world.now += CUT_OFF_AFTER / 2
    world.settle()
    assert the(world).left_out == {}
    world.connect("h2")
    world.run_down()
    assert (the(world).phase, the(world).module) == (Phase.ACTIVE, "other")
    assert the(world).left_out == {}


def test_it_rotates_by_the_clock_and_in_turn(world: World) -> None:
    with_rotation(world, every="1h", modules=["other", "third"])
    seen = []
    for _ in range(4):
        seen.append(the(world).module)
        world.now += 3600
        world.run_down()
    assert seen == ["idle", "other", "third", "idle"]
    world.set_forward = -100_000
    world.run_down()
    module = the(world).module
    world.now += 3500
    world.run_down()
    assert the(world).module == module, "a clock that was set back rotates nothing"
    world.now += 200
    world.run_down()
    assert the(world).module != module


def test_what_is_not_its_turn() -> None:
    assert next_module(("a", "b"), "b") == "a"
    assert next_module(("a", "b"), "z") == "a"
    assert next_module((), "z") == "z"


def test_deactivated_by_direction_and_activated_again(world: World) -> None:
    safety = Lossless(world)
    world.nco.activate("one", False)
    world.run_down(safety)
    assert the(world).phase == Phase.INACTIVE
    everything = [c for host in world.hosts.values() for c in host.applied.values()]
    assert [(c.active, c.send) for c in everything] == [(False, False)] * 3
    world.kill()
    world.run_down()
    assert the(world).phase == Phase.INACTIVE
    world.nco.activate("one")
    world.run_down(safety)
    assert the(world).phase == Phase.ACTIVE
    assert safety.is_sent()
    world.nco.activate("one", False)
    world.run_down()
    world.nco.revoke("one")
    world.run_down()
    assert not any(host.applied for host in world.hosts.values())


def test_deprecated_for_who_begins(world: World) -> None:
    world.nco.deprecate("one")
    world.run_down()
    assert {
        (name, c.deprecated) for name, h in world.hosts.items() for c in h.applied.values()
    } == {("h1", True), ("h2", True), ("dns", False)}
    world.kill()
    world.run_down()
    world.nco.deprecate("one", False)
    world.run_down()
    assert not any(c.deprecated for h in world.hosts.values() for c in h.applied.values())


def test_another_priority(world: World) -> None:
    world.nco.apply(Intent.model_validate(intent("two", module="third", priority=7)))
    world.run_down()
    first = min(world.hosts["h1"].applied.values(), key=lambda c: c.priority)
    assert first.intent == "two"
    with pytest.raises(Conflict, match="both act on one flow"):
        world.nco.prioritize("one", 7)
    world.nco.prioritize("one", 3)
    world.settle()
    world.kill()
    world.run_down()
    first = min(world.hosts["h1"].applied.values(), key=lambda c: c.priority)
    assert first.intent == "one"
    world.nco.rotate("one", "other")
    world.run_down()
    first = min(world.hosts["h1"].applied.values(), key=lambda c: c.priority)
    assert first.module == "other"
