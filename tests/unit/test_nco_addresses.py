"""Hosts that come back with other addresses: who talks to them follows, receivers first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api import IntentView
from controller.intent import Intent
from controller.monitor_network import NetworkView
from controller.phases import Phase
from controller.switch_server import SwitchServer
from controller.views import Views
from tests.unit.nco_kit import intent, make_module
from tests.unit.nco_world import HOSTS, LINGER, World, the
from tests.unit.test_nco_membership import sends_to

NAMED = intent("one", client=[{"host": "h1"}, {"host": "h2"}])
NEW = "10.10.0.33"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    make_module(tmp_path / "modules", "other")
    manifest = tmp_path / "modules" / "other" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("0x58544147", "0x58540001"))
    world = World(tmp_path)
    world.run_down()
    yield world
    world.close()


def apply(world: World, **changes: object) -> None:
    world.nco.apply(Intent.model_validate({**NAMED, **changes}))
    world.run_down()
    assert world.phase("one") == Phase.ACTIVE


def moves(world: World, name: str, *addresses: str) -> None:
    """Let a host come back with other addresses."""
    if world.hosts[name].connected:
        world.disconnect(name)
    world.hosts[name].addresses = list(addresses)
    world.connect(name)


def shown(world: World) -> IntentView:
    """Return what `nco show` is told."""

    async def show() -> IntentView:
        return Views(world.nco, SwitchServer(world.nco.steering)).intent("one")

    return asyncio.run(show())


def understands(world: World, name: str) -> bool:
    return any(c.receive and c.active for c in world.hosts[name].applied.values())


def test_a_named_server_is_followed_at_once(world: World) -> None:
    apply(world)
    moves(world, "dns", NEW)
    for _ in range(8):
        world.settle()
        world.build()
        for name in HOSTS:
            while world.hosts[name].inbox:
                world.answer(name)
                assert understands(world, "dns"), "it never stops to understand"
    assert sends_to(world, "h1") == sends_to(world, "h2") == {NEW}, "no time had to pass"
    world.run_down()
    assert [len(world.hosts[name].applied) for name in HOSTS] == [1, 1, 1]
    assert the(world).phase == Phase.ACTIVE


def test_a_rotation_that_is_under_way_goes_on_and_then_follows(world: World) -> None:
    apply(world)
    world.nco.rotate("one", "other")
    world.settle()
    moves(world, "dns", NEW)
    world.run_down()
    world.now += 2
    world.run_down()
    assert the(world).module == "other"
    assert sends_to(world, "h1") == sends_to(world, "h2") == {NEW}
    assert {c.module for host in world.hosts.values() for c in host.applied.values()} == {"other"}


def test_one_that_moves_while_it_is_deployed_is_followed(world: World) -> None:
    world.nco.apply(Intent.model_validate(NAMED))
    world.build()
    world.settle()
    moves(world, "dns", NEW)
    world.run_down()
    world.now += 2
    world.run_down()
    assert the(world).phase == Phase.ACTIVE
    assert sends_to(world, "h1") == {NEW}


def test_an_intent_of_senders_alone_outlives_the_move(world: World) -> None:
    """Nothing of what it was stays: the server has nothing, the clients all get something else."""
    manifest = world.folder / "modules" / "idle" / "manifest.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace("receive = true", "receive = false"))
    apply(world)
    assert not world.hosts["dns"].applied
    moves(world, "dns", NEW)
    world.run_down()
    assert the(world).phase == Phase.ACTIVE
    assert sends_to(world, "h1") == sends_to(world, "h2") == {NEW}
    assert len(the(world).deployments) == 1


def test_a_middlebox_that_moves_gets_the_copies(world: World) -> None:
    apply(world, middlebox={"host": "h2"})
    moves(world, "h2", "10.10.0.22")
    world.run_down()
    (mirror,) = world.nco.steering().mirrors
    assert mirror.middlebox == "10.10.0.22"


def test_it_moves_again_before_all_have_followed(world: World) -> None:
    apply(world)
    moves(world, "dns", NEW)
    for _ in range(2):
        world.settle()
        world.build()
    world.answer("h1")
    moves(world, "dns", "10.10.0.34")
    world.settle()
    world.kill()
    world.run_down()
    world.now += LINGER
    world.run_down()
    assert sends_to(world, "h1") == sends_to(world, "h2") == {"10.10.0.34"}
    assert [len(world.hosts[name].applied) for name in HOSTS] == [1, 1, 1]


def test_what_cannot_be_followed_is_shown_until_it_can(world: World) -> None:
    apply(world)
    moves(world, "dns", HOSTS["dns"], NEW)
    world.run_down()
    why = "host dns has no single address (10.10.0.3, 10.10.0.33): say which by `address`"
    assert the(world).unfollowed == why
    assert (the(world).phase, the(world).error) == (Phase.ACTIVE, None)
    assert sends_to(world, "h1") == {HOSTS["dns"]}, "it stays as it was"
    assert shown(world).unfollowed == why
    world.kill()
    world.run_down()
    assert shown(world).unfollowed == why
    told = f"hosts and addresses are not followed: {why}"
    for _ in range(3):
        world.now += 2
        world.run_down()
    assert [event.text for event in world.nco.history.of("one")].count(told) == 1
    moves(world, "dns", NEW)
    world.run_down()
    assert shown(world).unfollowed is None
    assert "hosts and addresses are followed again" in [
        event.text for event in world.nco.history.of("one")
    ]
    assert sends_to(world, "h1") == {NEW}


def test_what_is_revoked_is_not_followed_and_nobody_minds(world: World) -> None:
    apply(world)
    moves(world, "dns", HOSTS["dns"], NEW)
    world.settle()
    world.nco.revoke("one")
    assert the(world).unfollowed is None
    world.run_down()
    assert world.phase("one") == Phase.GONE


def test_it_is_an_alert(world: World) -> None:
    apply(world)
    view = NetworkView(world.nco, lambda _: None)
    assert view.unfollowed() == {}
    moves(world, "dns", HOSTS["dns"], NEW)
    world.settle()
    (text,) = view.unfollowed().values()
    assert text.startswith("hosts and addresses of one are not followed: host dns has no single")
