"""Two ends joined by an adversary: what one application wrote is what the other reads.

Whatever TCP does to segments, applications to sizes, and the controller, in a legal order, to the
customizations (tests/stream_adversary.py says what is legal, and what must be true).
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests import stream_frames as wire
from tests.stream_adversary import WINDOW, Slot, World
from tests.stream_target import HOLD_NS, RECEIVE, SEND, TOKEN, ReceiveState, Role
from tests.stream_world import Kit
from tests.vectors import ROOT

BOTH = SEND | RECEIVE
ROLES = [
    (Role.CONNECT, Role.ACCEPT),
    (Role.CONNECT, Role.ACCEPT),
    (Role.JOIN, Role.JOIN),
    (Role.JOIN, Role.ACCEPT),
]

ends = st.integers(0, 1)
places = st.integers(0, 5)
sizes = st.one_of(st.integers(1, 40), st.integers(1, 3000), st.just(60_000))
times = st.sampled_from([1, 10**6, WINDOW // 2, WINDOW, HOLD_NS])
frames = st.sampled_from(
    [wire.END, wire.switch(b"SXOR", 12), wire.untouched(b"x"), wire.data(b"x", wire.tag(7))]
)
few = st.one_of(st.binary(min_size=1, max_size=70), frames, st.just(b"\xf5"))
bulk = st.builds(
    lambda seed, size: random.Random(seed).randbytes(size),  # noqa: S311 - not for secrets
    st.integers(0, 1000),
    st.integers(1, 40_000),
)


def mark_of(world: World, slot: Slot, kind: bytes, age: int) -> bytes:
    """A mark that a flow looks for (age 0), or looked for."""
    token = TOKEN if kind == b"N" else b"live%04d" % (world.tokens - age)
    signature = slot.dialect.signature if slot.dialect else b"\0\0\0\0"
    return wire.mark(signature, slot.made.epoch, kind, token)


def without_a_secret(world: World, end: int, app: bytes) -> bytes:
    """Tokens are secret: no application writes one in time, or only where it does not matter."""
    way = world.ways[end]
    if way.decoder.current is not None and any(
        slot.dialect and slot.dialect.content in ("tag", "xor") and (slot.ends[end] or 0) & SEND
        for slot in world.slots
    ):
        return app
    for token, since in ((TOKEN, 0), (b"live%04d" % world.tokens, len(way.written) - 19)):
        before = bytes(way.written[max(0, since) :]) if since or len(way.written) < 20 else b"."
        app = app if token not in before + app else app.replace(token[-4:], b"....")
        app = app if token not in before + app else b"." + app
    return app


class Adversary(RuleBasedStateMachine):
    kit: ClassVar[Kit]

    @initialize(
        roles=st.sampled_from(ROLES),
        on=st.lists(places, min_size=1, max_size=3),
        half=st.booleans(),
    )
    def connect(self, roles: tuple[Role, Role], on: list[int], half: bool) -> None:
        self.world = World(self.kit, roles)
        for place in on:
            self.deploy(place, place, half)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()
            self.world.close()

    def next_connection(self) -> None:
        self.world.close()
        self.connect(self.world.roles, [0, 1], False)

    @rule(place=places, priority=st.integers(0, 3), half=st.booleans())
    def deploy(self, place: int, priority: int, half: bool) -> None:
        """On both ends, first to receive, then to send."""
        slot = self.world.slots[place]
        for end in (1, 0):
            self.world.attach(end, slot, priority)
            self.world.set(end, slot, (slot.ends[end] or 0) | RECEIVE, priority)
        for end in (0,) if half else (0, 1):
            self.world.set(end, slot, BOTH, priority)

    @rule(end=ends, place=places, switches=st.integers(0, 3), priority=st.integers(0, 3))
    def switch(self, end: int, place: int, switches: int, priority: int) -> None:
        self.world.set(end, self.world.slots[place], switches, priority)

    @rule(end=ends, place=places)
    def revoke(self, end: int, place: int) -> None:
        slot = self.world.slots[place]
        self.world.set(end, slot, (slot.ends[end] or 0) & RECEIVE, 1)
        self.world.set(end, slot, 0, 1)
        self.world.detach(end, slot)

    @rule(end=ends, first=places, then=places, flush=st.booleans())
    def rotate(self, end: int, first: int, then: int, flush: bool) -> None:
        """On one end: the peer can receive both, or nothing happens."""
        old, new = self.world.slots[first], self.world.slots[then]
        self.world.set(end, new, BOTH, 0)
        self.world.set(end, old, (old.ends[end] or 0) & RECEIVE, 1)
        if flush:
            self.world.control(end)

    @rule(place=places)
    def revoke_on_both(self, place: int) -> None:
        for end in (0, 1, 0):
            self.revoke(end, place)

    @rule(end=ends)
    def send_nothing_more(self, end: int) -> None:
        for slot in self.world.slots:
            self.world.set(end, slot, (slot.ends[end] or 0) & RECEIVE, 1)

    @rule(end=ends, app=st.one_of(few, few, bulk))
    def write(self, end: int, app: bytes) -> None:
        self.world.write(end, without_a_secret(self.world, end, app))

    @rule(end=ends, app=few, size=sizes)
    def write_deliver_and_read(self, end: int, app: bytes, size: int) -> None:
        self.write(end, app)
        self.deliver_and_read(end, size)

    @rule(apps=st.lists(few, min_size=2, max_size=6))
    def talk(self, apps: list[bytes]) -> None:
        """Request and answer."""
        for place, app in enumerate(apps):
            self.write_deliver_and_read(place % 2, app, 60_000)

    @rule(
        end=ends,
        place=places,
        kind=st.sampled_from([b"N", b"L"]),
        age=st.integers(0, 1),
        cut=st.integers(1, 20),
    )
    def write_a_mark(self, end: int, place: int, kind: bytes, age: int, cut: int) -> None:
        self.write(end, mark_of(self.world, self.world.slots[place], kind, age)[:cut])

    @rule(end=ends)
    def control(self, end: int) -> None:
        self.world.control(end)

    @rule(end=ends, size=sizes)
    def deliver(self, end: int, size: int) -> None:
        self.world.deliver(end, size)

    @rule(end=ends, room=sizes)
    def read(self, end: int, room: int) -> None:
        self.world.read(end, room)
        if self.world.broken:
            self.next_connection()

    @rule(end=ends, size=sizes)
    def deliver_and_read(self, end: int, size: int) -> None:
        self.world.deliver(end, size)
        self.read(1 - end, 60_000)

    @rule(end=ends, disarm=st.booleans())
    def arm_alone(self, end: int, disarm: bool) -> None:
        if disarm:
            self.world.disarm(end)
        else:
            self.world.arm(end)

    @rule(first=ends, alone=st.booleans())
    def arm_and_go(self, first: int, alone: bool) -> None:
        self.world.arm(first)
        self.world.arm(1 - first)
        self.world.go(first)
        if not alone:
            self.world.go(1 - first)

    @rule(end=ends)
    def go(self, end: int) -> None:
        self.world.go(end)

    @rule(time=times, both=st.booleans(), end=ends)
    def wait(self, time: int, both: bool, end: int) -> None:
        self.world.now += time
        for one in (0, 1) if both else (end,):
            self.world.tick(one)
        if self.world.broken:
            self.world.read(end, 60_000)
            self.next_connection()

    @rule(end=ends, patience=st.sampled_from([10**6, HOLD_NS]))
    def drain(self, end: int, patience: int) -> None:
        self.world.drain(end, patience)

    @rule(end=ends, flush=st.booleans())
    def end_direction(self, end: int, flush: bool) -> None:
        if flush:
            self.world.control(end)
        self.world.end(end)
        if all(way.closed for way in self.world.ways):
            self.world.finish()
            self.next_connection()


@pytest.mark.timeout(600)
def test_what_is_written_is_read(kit: Kit) -> None:
    Adversary.kit = kit
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Adversary,
        settings=settings(
            max_examples=200,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_an_end_that_was_on_its_way_answers(kit: Kit) -> None:
    """Found by the game: another stream stood behind that end."""
    world = World(kit, ROLES[0])
    slot = world.slots[0]
    for end in (1, 0):
        world.attach(end, slot, 0)
        world.set(end, slot, BOTH, 0)
    world.write(0, b"a stream")
    world.deliver(0, 1000)
    world.read(1, 1000)
    world.set(0, slot, RECEIVE, 0)
    world.control(0)
    world.set(0, slot, BOTH, 0)
    for end in (0, 1):
        world.arm(end)
    world.go(0)
    world.write(0, b"another")
    world.set(0, slot, RECEIVE, 0)
    world.drain(1, 1)
    world.deliver(0, 1000)
    world.read(1, 1000)
    assert world.ways[0].receiver.receiving == ReceiveState.FRAMED
    world.now += 1
    world.tick(1)
    world.drain(1, 1)
    world.now += 1
    world.tick(1)
    assert world.ways[0].silent
    world.close()


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), places=st.permutations([0, 1, 4]))
def test_hundreds_of_rotations_with_bytes_in_flight(kit: Kit, seed: int, places: list[int]) -> None:
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    world = World(kit, ROLES[0])
    slots = [world.slots[place] for place in places[:2]]
    for slot in slots:
        for end in (1, 0):
            world.attach(end, slot, 1)
            world.set(end, slot, RECEIVE, 1)
    world.set(0, slots[0], BOTH, 0)
    world.write(0, b"so that the server may begin")
    world.deliver(0, 1000)
    world.read(1, 1000)
    for turn in range(300):
        for end in (0, 1):
            world.set(end, slots[turn % 2], BOTH, 0)
            world.set(end, slots[1 - turn % 2], RECEIVE, 1)
            world.write(end, dice.randbytes(dice.randint(1, 200)))
            world.deliver(end, dice.randint(1, 100))
            world.read(1 - end, dice.choice([1, 5, 500]))
    assert all(way.flying for way in world.ways)
    switched = {slot.dialect.name for slot in slots if slot.dialect}
    assert all(switched == set(way.decoder.left) for way in world.ways)
    world.finish()
    world.close()


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "adversary"
    make = ["make", "-s", "-C", str(ROOT / "kernel_tap" / "user"), "adversary"]
    subprocess.run([*make, f"OUT={folder}"], check=True)
    return folder / "adversary"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_millions_of_steps_under_sanitizers(in_c: Path, seed: int) -> None:
    """To repeat it: kernel_tap/user/adversary.c; the test's name has the seed."""
    result = subprocess.run([str(in_c), str(seed), "2000000"], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b""), result.stdout.decode()
    counts = dict(part.split(b"=") for part in result.stdout.split())
    assert all(int(count) > 10 for count in counts.values())
