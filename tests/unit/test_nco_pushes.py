"""Whose turn it is to write, and who may stand at the door."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from controller.bucket import Bucket
from controller.pushes import Pushes
from controller.strangers import Strangers


class Loop:
    """Calls what is due, as an event loop does, round by round."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()

    def soon(self, call: Callable[[], None]) -> None:
        self._due.append(call)

    def round(self) -> bool:
        """Do what is due now; whether there was something."""
        now = list(self._due)
        self._due.clear()
        for call in now:
            call()
        return bool(now)


class Outlet:
    """Has a number of pieces; notes each that it writes."""

    def __init__(self, name: int, pieces: int, log: list[int]) -> None:
        self._name = name
        self._left = pieces
        self._log = log

    def take_turn(self) -> bool:
        self._log.append(self._name)
        self._left -= 1
        return self._left > 0


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 5))
def test_each_piece_is_written_and_few_take_part_at_a_time(
    pieces: list[int], at_a_time: int
) -> None:
    loop, log = Loop(), list[int]()
    pushes = Pushes(loop.soon, at_a_time)
    for name, count in enumerate(pieces):
        pushes.add(Outlet(name, count, log))
    before = 0
    while loop.round():
        wrote = log[before:]
        assert len(wrote) == len(set(wrote)) <= at_a_time
        before = len(log)
    assert Counter(log) == Counter(dict(enumerate(pieces)))
    first_times = [log.index(name) for name in range(len(pieces))]
    assert first_times == sorted(first_times), "first come, first served"


def test_nothing_is_due_where_there_is_nothing_to_write() -> None:
    loop, log = Loop(), list[int]()
    Pushes(loop.soon).add(Outlet(1, 1, log))
    assert loop.round()
    assert not loop.round()


def test_a_newcomer_takes_the_place_of_the_greediest_ones_oldest() -> None:
    strangers: Strangers[int] = Strangers(room=4)
    for peer, address in enumerate(["a", "b", "a", "a"]):
        assert strangers.add(peer, address) is None
    assert not strangers.has_room("a")
    assert strangers.has_room("c")
    assert strangers.add(4, "c") == 0
    assert not strangers.has_room("b"), "it would have as many as the greediest"
    strangers.remove(0)
    strangers.remove(2)
    assert strangers.has_room("b")
    assert strangers.all() == [1, 3, 4]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_whoever_holds_fewer_than_the_greediest_gets_in(steps: list[tuple[int, bool]]) -> None:
    room = 8
    strangers: Strangers[int] = Strangers(room)
    inside: dict[int, str] = {}
    for peer, (number, leaves) in enumerate(steps):
        if leaves and inside:
            gone = next(iter(inside))
            strangers.remove(gone)
            del inside[gone]
        address, count = str(number), Counter(inside.values())
        greediest = max(count.values(), default=0)
        expected = len(inside) < room or count[address] + 1 < greediest
        assert strangers.has_room(address) == expected
        if expected:
            leaving = strangers.add(peer, address)
            if leaving is not None:
                assert count[inside.pop(leaving)] == greediest
            inside[peer] = address
        assert strangers.all() == list(inside)
        assert len(strangers) <= room


def test_a_bucket_lets_its_rate_through() -> None:
    bucket = Bucket(rate=2, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
