"""Hosts come, go, move and are forgotten while intents are deployed, rotated and taken away.

Hypothesis lets it happen in any order, with agents that answer late or refuse, commits that fail
and a service that is killed. After every step it is checked, on what the hosts really have, that
whoever is sent a wire form understands it; and at the end, when all are there again, that every
host has what the intents mean it to have, at the addresses that hosts have now, and nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.errors import Refusal
from controller.intent import Intent
from controller.phases import Phase
from controller.rotation import CUT_OFF_AFTER, in_transition
from tests.unit.nco_kit import intent
from tests.unit.nco_world import LINGER, World, each
from tests.unit.test_nco_membership import BY_LABEL, CLIENTS, SERVERS, labelled, later
from wire.messages import Customization

NAMED = intent("two", port=5353, priority=7, client=[{"host": "h1"}, {"host": "dns2"}])
INTENTS = {
    "one": Intent.model_validate({**BY_LABEL, "rotation": {"cut_off": True}}),
    "two": Intent.model_validate(NAMED),
}
NAMES = (*CLIENTS, *SERVERS)
ELSEWHERE = {name: f"10.10.1.{number}" for number, name in enumerate(NAMES, start=1)}
ROLES = {name: "role=client" if name in CLIENTS else "role=server" for name in NAMES}


class Understood:
    """Checks that what a host is sent in wire form it understands, or did within the linger time.

    Not of who was forgotten, or is left out for so long that nobody waits for it any more: what
    they do is not the NCO's to say.
    """

    def __init__(self, world: World) -> None:
        self.forgotten: set[str] = set()
        self._world = world
        self._sent: dict[tuple[str, str, str], tuple[Customization, float]] = {}
        """By client, server and identifier, when that customization was sent last."""
        self._stopping: dict[str, float] = {}
        """By customization that is still sent and not to be, since when that is so."""
        self._out: dict[tuple[str, str], float] = {}
        """By intent and host, since when it is left out."""
        self._given_up: set[str] = set()

    def check(self) -> None:
        self._look_who_is_given_up()
        at = {address_of(self._world, name): name for name in NAMES}
        for client in NAMES:
            for one in self._world.hosts[client].applied.values():
                server = at.get(str(one.match.remote).removesuffix("/32"))
                if one.send and one.active and server:
                    self._sent[client, server, one.id] = one, self._world.now
        for (client, server, _), (one, sent) in self._sent.items():
            there = self._world.hosts[server].applied.values()
            understood = any(
                (c.intent, c.module) == (one.intent, one.module) and c.receive and c.active
                for c in there
            )
            lingered = self._world.now >= sent + LINGER
            lost = {client, server} & self.forgotten or one.id in self._given_up
            assert understood or lingered or lost, (server, one.intent, one.module)

    def _look_who_is_given_up(self) -> None:
        """Take note of what was to stop long ago, on a host that is left out."""
        now = self._world.now
        out = {(s.name, host) for s in self._world.cib.intents() for host in s.left_out}
        self._out = {one: self._out.get(one, now) for one in out}
        for name in NAMES:
            known = self._world.cib.host(name)
            wanted = {c.id for c in known.customizations if c.send} if known else set()
            for one in self._world.hosts[name].applied.values():
                if not one.send or one.id in wanted:
                    self._stopping.pop(one.id, None)
                    continue
                since = self._stopping.setdefault(one.id, now)
                out_since = self._out.get((one.intent, name))
                if out_since is not None and now >= min(since, out_since) + CUT_OFF_AFTER:
                    self._given_up.add(one.id)


def address_of(world: World, name: str) -> str:
    (address,) = world.hosts[name].hello().addresses
    return address


def move(world: World, name: str) -> None:
    """Let a host come back elsewhere; the next time where it was."""
    host = world.hosts[name]
    if host.connected:
        world.disconnect(name)
    host.addresses = [] if host.addresses else [ELSEWHERE[name]]
    world.connect(name)


def go_on(world: World, silent: str) -> None:
    """Let all be built, and everybody answer but one."""
    world.build()
    world.settle()
    for name in NAMES:
        if name != silent:
            world.happen("answer", name)


def label(world: World, name: str) -> None:
    """Give a host the label of its role, or take it away."""
    known = world.cib.host(name)
    has = {ROLES[name]} if known and ROLES[name] in known.labels else set()
    world.nco.label_host(name, {ROLES[name]} - has, has)


def fail_challenge(world: World, name: str) -> None:
    for one in list(world.hosts[name].applied)[:1]:
        world.nco.challenge_failed(name, one, "no answer")


DECISIONS: dict[str, Callable[[World, str], object]] = {
    "move": move,
    "go on": go_on,
    "label": label,
    "fail a challenge": fail_challenge,
    "forget": lambda world, host: world.nco.forget_host(host),
    "leave out": lambda world, host: world.nco.leave_out("one", host, "because"),
    "admit to one": lambda world, host: world.nco.admit("one", host),
    "admit to two": lambda world, host: world.nco.admit("two", host),
    "rotate one": lambda world, module: world.nco.rotate("one", module),
    "rotate two": lambda world, module: world.nco.rotate("two", module),
    "cancel": lambda world, name: world.nco.cancel_rotation(name),
    "activate": lambda world, no: world.nco.activate("one", no == ""),
    "revoke": lambda world, name: world.nco.revoke(name),
    "apply": lambda world, name: world.nco.apply(INTENTS[name]),
}
"""What the world does not know itself; what operators do may be refused."""

EVENTS = [
    *(5 * each("answer", NAMES)),
    *(4 * each("go on", ["", *NAMES])),
    *each("refuse", NAMES),
    *each("come or go", NAMES),
    *each("move", NAMES),
    *(2 * each("label", NAMES)),
    *each("forget", NAMES),
    *each("fail a challenge", NAMES),
    *each("leave out", NAMES),
    *each("admit to one", NAMES),
    *each("admit to two", NAMES),
    *(3 * each("build", [""])),
    *(2 * each("wait", ["2.0", str(LINGER)])),
    *each("wait", [str(CUT_OFF_AFTER)]),
    *each("rotate one", ["idle", "other"]),
    *each("rotate two", ["idle", "other"]),
    *each("cancel", ["one"]),
    *each("activate", ["", "no"]),
    *each("revoke", INTENTS),
    *(2 * each("apply", INTENTS)),
    *each("kill the service", [""]),
    *each("lose the commit", [""]),
]
STEPS = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.sampled_from([True, True, False])),
    min_size=30,
    max_size=80,
)


def happen(world: World, what: str, argument: str) -> bool:
    """Let one thing happen; False where it was refused."""
    if what not in DECISIONS:
        world.happen(what, argument)
        return True
    try:
        DECISIONS[what](world, argument)
    except Refusal:
        return False
    return True


def meant(world: World, name: str) -> dict[str, set[str]]:
    """Return to which addresses each host should send because of an intent, as things stand."""
    state, known = world.cib.intent(name), world.cib.hosts()
    if state is None or state.phase != Phase.ACTIVE:
        return {}
    if name == "one":
        clients, servers = (
            [host for host in NAMES if ROLES[host] == role and role in known[host].labels]
            for role in ("role=client", "role=server")
        )
    else:
        clients, servers = ["h1", "dns2"], ["dns"]
    reached = {address_of(world, host) for host in servers if host not in state.left_out}
    return {host: reached for host in clients if host not in state.left_out and reached}


def sent(world: World, name: str) -> dict[str, set[str]]:
    """Return to which addresses each host sends because of an intent."""
    found: dict[str, set[str]] = {}
    for host in NAMES:
        for one in world.hosts[host].applied.values():
            if one.intent == name and one.send and one.active:
                found.setdefault(host, set()).add(str(one.match.remote).removesuffix("/32"))
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_all_is_understood_and_in_the_end_as_it_is_meant(
    steps: list[tuple[tuple[str, str], bool]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="l45-test-") as folder:
        world = labelled(Path(folder), {name: ROLES[name] for name in ("h1", "h2", "dns")})
        world.nco.revoke("one")
        world.run_down()
        for wanted in INTENTS.values():
            world.nco.apply(wanted)
        world.run_down()
        safety = Understood(world)
        for (what, argument), settled in steps:
            if happen(world, what, argument) and what == "forget":
                safety.forgotten.add(argument)
            safety.check()
            if settled:
                world.settle()
        later(world)
        later(world)
        for name in INTENTS:
            assert sent(world, name) == meant(world, name), name
            state = world.cib.intent(name)
            if state is None:
                continue
            up = any(not one.goes_down for one in state.deployments)
            if up and state.active and not state.revoked:
                assert state.phase == Phase.ACTIVE
                assert not in_transition(state)
            if state.phase == Phase.ACTIVE:
                assert world.nco.waiting(state) == {}
                there = {
                    c.module
                    for h in world.hosts.values()
                    for c in h.applied.values()
                    if c.intent == name
                }
                assert there <= {state.module}
        for state in world.cib.intents():
            world.nco.revoke(state.name)
        later(world)
        assert world.cib.intents() == []
        assert not any(host.applied for host in world.hosts.values())
        world.close()
