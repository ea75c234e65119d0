"""Hosts come and go while an intent is up: each goes up, or down, by itself, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import Conflict, NotFound
from controller.intent import Intent
from controller.phases import Phase
from tests.unit.nco_kit import intent, make_module
from tests.unit.nco_world import LINGER, Host, World, the

BY_LABEL = intent(
    "one", client=[{"label": "role=client"}], server=[{"label": "role=server"}], port=53
)
SERVERS = {"dns": "10.10.0.3", "dns2": "10.10.0.4"}
CLIENTS = ("h1", "h2")


class Understood:
    """Checks that what a client sends to a server, that server understands, or lingers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[tuple[str, str], float] = {}

    def check(self) -> None:
        for name in CLIENTS:
            for one in self._world.hosts[name].applied.values():
                for server, address in SERVERS.items():
                    if one.send and one.active and str(one.match.remote) == f"{address}/32":
                        self._sent[server, one.module] = self._world.now
        for (server, module), at in self._sent.items():
            there = self._world.hosts[server].applied.values()
            lingered = self._world.now >= at + LINGER
            assert lingered or any(c.receive and c.active and c.module == module for c in there), (
                server
            )


def labelled(folder: Path, labels: dict[str, str]) -> World:
    for number, module in enumerate(("idle", "other")):
        make_module(folder / "modules", module)
        manifest = folder / "modules" / module / "manifest.toml"
        manifest.write_text(manifest.read_text().replace("0x58544147", f"0x5854000{number}"))
    world = World(folder)
    world.add_host("dns2", SERVERS["dns2"])
    world.run_down()
    for name, label in labels.items():
        world.nco.label_host(name, {label}, set())
    world.nco.apply(Intent.model_validate(BY_LABEL))
    world.run_down()
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = labelled(tmp_path, {"h1": "role=client", "dns": "role=server"})
    yield world
    world.close()


@pytest.fixture
def bare_world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def sends_to(world: World, client: str) -> set[str]:
    return {str(c.match.remote)[:-3] for c in world.hosts[client].applied.values() if c.send}


def later(world: World, safety: Understood | None = None) -> None:
    world.now += 2
    world.run_down(safety)


def test_who_gets_the_label_joins_and_who_loses_it_leaves(world: World) -> None:
    safety = Understood(world)
    assert sends_to(world, "h1") == {SERVERS["dns"]}
    world.nco.label_host("h2", {"role=client"}, set())
    later(world, safety)
    assert sends_to(world, "h2") == {SERVERS["dns"]}
    world.nco.label_host("dns2", {"role=server"}, set())
    later(world, safety)
    assert sends_to(world, "h1") == sends_to(world, "h2") == set(SERVERS.values())
    world.kill()
    later(world, safety)
    world.nco.label_host("dns", set(), {"role=server"})
    later(world, safety)
    assert sends_to(world, "h1") == sends_to(world, "h2") == {SERVERS["dns2"]}
    assert not world.hosts["dns"].applied
    assert the(world).phase == Phase.ACTIVE
    world.nco.revoke("one")
    later(world, safety)
    assert not any(host.applied for host in world.hosts.values())


def test_a_host_that_joins_and_refuses_stays_away_alone(world: World) -> None:
    world.nco.label_host("h2", {"role=client"}, set())
    world.now += 2
    world.settle()
    world.build()
    world.settle()
    world.answer("h2", refuse=True)
    later(world)
    state = the(world)
    assert state.phase == Phase.ACTIVE
    assert state.left_out == {"h2": "it does not fit"}
    assert state.error == "host h2 is left out: it does not fit"
    assert sends_to(world, "h1") == {SERVERS["dns"]}
    assert not world.hosts["h2"].applied
    world.nco.admit("one", "h2")
    later(world)
    assert sends_to(world, "h2") == {SERVERS["dns"]}
    assert the(world).error is None


def test_who_joins_together_goes_up_without_who_refuses(world: World) -> None:
    safety = Understood(world)
    world.nco.label_host("h2", {"role=client"}, set())
    world.nco.label_host("dns2", {"role=server"}, set())
    world.now += 2
    world.settle()
    world.build()
    world.settle()
    world.answer("h2", refuse=True)
    later(world, safety)
    assert the(world).left_out == {"h2": "it does not fit"}
    assert sends_to(world, "h1") == set(SERVERS.values())


def test_code_that_cannot_be_built_leaves_out_who_needs_it(world: World) -> None:
    world.hosts["h2"].targets, world.hosts["h2"].kernel = ["kmod"], "6.9.9"
    manifest = world.folder / "modules" / "idle" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('"user", "bpf"', '"bpf", "kmod"'))
    world.disconnect("h2")
    world.connect("h2")
    world.nco.label_host("h2", {"role=client"}, set())
    world.nco.label_host("dns2", {"role=server"}, set())
    world.now += 2
    world.settle()
    for order in world.nco.to_build():
        if any(platform.kernel for platform in order.platforms):
            world.nco.build_failed(order, "no headers")
    later(world)
    assert the(world).phase == Phase.ACTIVE
    assert the(world).left_out == {"h2": "no headers"}
    assert sends_to(world, "h1") == set(SERVERS.values())


def test_a_server_that_nobody_can_reach_keeps_nobody_out(world: World) -> None:
    bare = world.hosts["bare"] = Host("bare", gone=True)
    hello = world.hosts["h1"].hello().model_copy(update={"host": "bare", "addresses": []})
    world.nco.connected(bare, hello)
    world.nco.label_host("bare", {"role=server"}, set())
    world.nco.label_host("h2", {"role=client"}, set())
    later(world)
    assert sends_to(world, "h2") == {SERVERS["dns"]}


def test_who_is_away_joins_later_and_keeps_nobody_out(world: World) -> None:
    world.disconnect("h2")
    world.hosts["h2"].gone = True
    world.nco.label_host("h2", {"role=client"}, set())
    later(world)
    world.nco.label_host("dns2", {"role=server"}, set())
    later(world)
    assert sends_to(world, "h1") == set(SERVERS.values())
    assert the(world).left_out == {}
    world.hosts["h2"].gone = False
    later(world)
    assert sends_to(world, "h2") == set(SERVERS.values())


def test_a_label_that_was_acknowledged_counts_after_a_kill(world: World) -> None:
    """The service dies before it has looked at who is meant now."""
    world.nco.label_host("h2", {"role=client"}, set())
    world.settle()
    world.nco.label_host("dns2", {"role=server"}, set())
    world.settle()
    world.kill()
    later(world)
    assert sends_to(world, "h1") == sends_to(world, "h2") == set(SERVERS.values())


def test_who_was_admitted_counts_after_a_kill(world: World) -> None:
    world.nco.leave_out("one", "h1", "a test")
    later(world)
    world.nco.label_host("h2", {"role=client"}, set())
    world.settle()
    world.nco.admit("one", "h1")
    world.settle()
    world.kill()
    later(world)
    assert sends_to(world, "h1") == {SERVERS["dns"]}


def test_an_active_intent_survives_who_refuses_later(world: World) -> None:
    host = world.hosts["h1"]
    broken = {
        "customizations": [
            status.model_copy(update={"error": "the kernel forgot it"})
            for status in host.report().customizations
        ]
    }
    world.nco.reported("h1", host, host.report().model_copy(update=broken))
    world.settle()
    assert the(world).phase == Phase.ACTIVE
    assert world.nco.waiting(the(world)) == {"h1": "the kernel forgot it"}
    world.nco.reported("h1", host, host.report())
    world.settle()
    assert world.nco.waiting(the(world)) == {}


def test_a_forgotten_host_is_waited_for_by_nobody(world: World) -> None:
    world.nco.label_host("dns2", {"role=server"}, set())
    later(world)
    with pytest.raises(Conflict, match="is connected: stop it first"):
        world.nco.forget_host("dns2")
    world.disconnect("dns2")
    world.nco.forget_host("dns2")
    world.settle()
    world.hosts["dns2"].gone = True
    later(world)
    assert world.cib.host("dns2") is None
    assert sends_to(world, "h1") == {SERVERS["dns"]}
    assert the(world).phase == Phase.ACTIVE
    world.kill()
    later(world)
    assert world.cib.host("dns2") is None
    with pytest.raises(NotFound, match="no host 'dns2'"):
        world.nco.forget_host("dns2")
    world.hosts["dns2"].gone = False
    later(world)
    assert not world.hosts["dns2"].applied, "it came back without its label"


def test_an_intent_waits_for_a_named_host_until_that_is_forgotten(bare_world: World) -> None:
    world = bare_world
    world.run_down()
    world.nco.apply(Intent.model_validate(intent("one", client=[{"host": "h1"}, {"host": "h2"}])))
    world.disconnect("h2")
    world.hosts["h2"].gone = True
    world.run_down()
    assert the(world).phase == Phase.RECEIVE
    world.nco.forget_host("h2")
    later(world)
    assert the(world).phase == Phase.ACTIVE
    world.hosts["h2"].gone = False
    later(world)
    assert sends_to(world, "h2") == {SERVERS["dns"]}, "it was named, and is back"


def test_a_failed_challenge_revokes_on_both_ends(world: World) -> None:
    world.nco.label_host("dns2", {"role=server"}, set())
    later(world)
    safety = Understood(world)
    (item,) = world.hosts["dns"].applied
    world.nco.challenge_failed("dns", item, "no answer")
    later(world, safety)
    assert sends_to(world, "h1") == {SERVERS["dns2"]}
    assert not world.hosts["dns"].applied
    assert the(world).left_out == {"dns": "challenge failed: no answer"}
    world.nco.challenge_failed("dns", item, "again")
    world.nco.challenge_failed("nobody", item, "again")


def test_a_failed_challenge_outlives_commits_that_fail(world: World) -> None:
    """Nobody asks again before the next challenge is due, and perhaps nobody ever does."""
    world.nco.label_host("dns2", {"role=server"}, set())
    later(world)
    (item,) = world.hosts["dns"].applied
    world.nco.challenge_failed("dns", item, "no answer")
    for _ in range(3):
        world.nco.settle()
        world.restore("the file is locked")
    assert the(world).left_out == {"dns": "challenge failed: no answer"}
    later(world)
    assert sends_to(world, "h1") == {SERVERS["dns2"]}
    assert not world.hosts["dns"].applied
    world.nco.admit("one", "dns")
    world.settle()
    world.restore("the file is locked")
    later(world)
    assert sends_to(world, "h1") == set(SERVERS.values()), "what was committed is not done again"


def slow(world: World, name: str, safety: Understood, rounds: int = 8) -> None:
    """Let everybody answer but one, who has heard nothing yet."""
    for _ in range(rounds):
        world.settle()
        world.build()
        for host in world.hosts.values():
            while host.name != name and host.inbox:
                world.answer(host.name)
                safety.check()
        world.now += LINGER


@pytest.mark.parametrize("end", ["revoke", "deactivate", "rotate", "lose the server"])
def test_a_server_understands_until_the_last_who_joined_has_stopped(world: World, end: str) -> None:
    """Who joined is in a deployment of its own, and its server in an older one."""
    world.nco.label_host("h2", {"role=client"}, set())
    later(world)
    assert len(the(world).deployments) == 2
    safety = Understood(world)
    if end == "revoke":
        world.nco.revoke("one")
    elif end == "deactivate":
        world.nco.activate("one", False)
    elif end == "rotate":
        world.nco.rotate("one", "other")
    else:
        world.nco.leave_out("one", "dns", "a test")
    slow(world, "h2", safety)
    assert sends_to(world, "h2") == {SERVERS["dns"]}
    assert any(c.receive and c.active for c in world.hosts["dns"].applied.values())
    world.kill()
    later(world, safety)
    if end == "deactivate":
        world.nco.activate("one")
        slow(world, "dns", safety)
        assert not sends_to(world, "h1") | sends_to(world, "h2")
        later(world, safety)
        assert sends_to(world, "h2") == {SERVERS["dns"]}


@pytest.mark.parametrize("last", CLIENTS)
def test_who_stops_last_is_waited_for_the_linger_time(world: World, last: str) -> None:
    """The others are ready to be taken away long before."""
    world.nco.label_host("h2", {"role=client"}, set())
    later(world)
    world.nco.revoke("one")
    slow(world, last, Understood(world))
    world.answer(last)
    world.now += 0.1
    for _ in range(3):
        world.settle()
        for host in world.hosts.values():
            while host.inbox:
                world.answer(host.name)
    assert all(world.hosts[name].applied for name in ("h1", "h2", "dns")), "it may be on its way"
    later(world)
    assert not any(host.applied for host in world.hosts.values())


def test_where_one_side_is_lost_the_intent_goes(bare_world: World) -> None:
    world = bare_world
    world.run_down()
    world.nco.apply(Intent.model_validate(intent("one")))
    world.run_down()
    (item,) = world.hosts["dns"].applied
    world.nco.challenge_failed("dns", item, "no answer")
    world.run_down()
    state = the(world)
    assert (state.phase, state.error) == (
        Phase.FAILED,
        "host dns is left out: challenge failed: no answer",
    )
    assert not any(host.applied for host in world.hosts.values())
    assert world.nco.apply(Intent.model_validate(intent("one"))), "it may be tried again"
    world.run_down()
    assert the(world).phase == Phase.ACTIVE


def test_members_follow_a_rotation(world: World) -> None:
    safety = Understood(world)
    world.nco.rotate("one", "other")
    world.settle()
    world.nco.label_host("h2", {"role=client"}, set())
    later(world, safety)
    modules = {c.module for host in world.hosts.values() for c in host.applied.values()}
    assert modules == {"other"}
    assert sends_to(world, "h2") == {SERVERS["dns"]}
