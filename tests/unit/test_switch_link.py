"""The Ryu application's link to the service, against a socket that says what each test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eventlet
import pytest
from eventlet.green import socket

from apps.service_link import ServiceLink
from controller.config import StateFolder
from controller.switch_link import Steering, SteeringReport, Switches
from wire.frames import FrameReader, encode
from wire.messages import dump

SECONDS = 20


class Service:
    """A listening socket, and the link that connects to it."""

    def __init__(self, state: Path) -> None:
        (state / "run").mkdir()
        self.switches = Switches(connected=[1])
        self.wanted: list[Steering] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(state / "run" / "switches.sock"))
        self._listener.listen()
        self.link = ServiceLink(StateFolder(state), lambda: self.switches, self.wanted.append)
        self._running = eventlet.spawn(self.link.run)

    def accept(self) -> None:
        self.peer, _ = self._listener.accept()
        self._reader = FrameReader()

    def hear(self) -> list[Any]:
        return list(self._reader.feed(self.peer.recv(65536)))

    def close(self) -> None:
        self._running.kill()
        self._listener.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with eventlet.Timeout(SECONDS):
        made = Service(tmp_path)
        made.accept()
        eventlet.sleep(0)
        yield made
        made.close()


def test_the_first_message_says_all_switches(service: Service) -> None:
    service.link.flush()
    assert service.hear() == [dump(Switches(connected=[1]))]


def test_the_same_again_is_not_sent_and_of_two_the_later_one_is(service: Service) -> None:
    service.link.flush()
    service.hear()
    service.link.put(Switches(connected=[1]))
    service.link.flush()
    service.link.put(SteeringReport(generation=1))
    service.link.put(SteeringReport(generation=2))
    service.link.flush()
    assert service.hear() == [dump(SteeringReport(generation=2))]


def test_what_the_service_wants_is_handed_on(service: Service) -> None:
    frame = encode(dump(Steering(generation=3)))
    for piece in (frame[:5], frame[5:]):
        service.peer.sendall(piece)
    while not service.wanted:
        eventlet.sleep(0.01)
    assert service.wanted == [Steering(generation=3)]


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 64, encode(["no", "map"]), encode({"type": "steering", "generation": "many"})],
)
def test_garbage_ends_the_connection_and_the_next_one_begins_anew(
    service: Service, garbage: bytes
) -> None:
    service.peer.sendall(garbage)
    assert service.peer.recv(1) == b""
    service.accept()
    eventlet.sleep(0)
    service.link.flush()
    assert service.hear() == [dump(Switches(connected=[1]))]
    assert service.wanted == []


def test_a_message_of_an_unknown_type_is_passed_over(service: Service) -> None:
    service.peer.sendall(encode({"type": "from the future"}) + encode(dump(Steering(generation=4))))
    while not service.wanted:
        eventlet.sleep(0.01)
    assert service.wanted == [Steering(generation=4)]


def test_what_cannot_be_sent_is_dropped_without_a_connection(service: Service) -> None:
    service.peer.close()
    eventlet.sleep(0.05)
    service.link.put(SteeringReport(generation=1))
    service.link.flush()
    service.accept()
    eventlet.sleep(0)
    service.link.flush()
    assert service.hear() == [dump(Switches(connected=[1]))]
