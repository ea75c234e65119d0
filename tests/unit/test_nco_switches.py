"""The Unix socket to the Ryu application, on the real service, with a scripted application."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.switch_link import (
    FROM_SERVICE,
    Mirror,
    MirrorStatus,
    SeenHost,
    Steering,
    SteeringReport,
    Switches,
)
from controller.switch_server import SwitchServer
from tests.unit.nco_kit import (
    Service,
    eventually,
    intent,
    make_state,
    network,
    running,
)
from tests.waiting import PATIENCE
from wire.frames import FrameReader, encode
from wire.messages import dump, parse


class Application:
    """What Ryu would be."""

    def __init__(self, service: Service) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(service.state.switches_socket))
        self._reader = FrameReader()
        self._read: deque[Any] = deque()

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: Any) -> None:  # noqa: ANN401
        self.socket.sendall(encode(dump(message)))

    def steering(self) -> Steering | None:
        """Return the next message, None at the end."""
        while not self._read and (data := self.socket.recv(65536)):
            self._read += self._reader.feed(data)
        if not self._read:
            return None
        message = parse(FROM_SERVICE, self._read.popleft())
        assert isinstance(message, Steering)
        return message


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(make_state(tmp_path_factory.mktemp("nco"))) as service:
        yield service


def applied(service: Service) -> None:
    with service.client() as client:
        client.put("/intents/tag", json=intent(middlebox={"host": "mb"})).raise_for_status()
    eventually(lambda: service.get("/intents/tag")["phase"] == "active", "active")


def test_mirrors_are_asked_for_and_reported(tmp_path: Path) -> None:
    with network(tmp_path, "h1", "dns", "mb") as made, Application(made.service) as ryu:
        service = made.service
        first = ryu.steering()
        assert first is not None
        assert first.control == ("127.0.0.1", 4545)
        assert first.mirrors == []
        seen = SeenHost(mac="02:00:00:00:00:01", address="10.10.0.1", dpid=2, port=3)
        ryu.send(Switches(connected=[1, 2], hosts=[seen]))
        eventually(lambda: service.get("/status")["switches"] == [1, 2], "switches")
        assert {h["name"]: h["switch"] for h in service.get("/hosts")}["h1"] == "s2 port 3"

        applied(service)
        wanted = ryu.steering()
        assert wanted is not None
        assert wanted.generation > first.generation
        assert wanted.mirrors == [
            Mirror(id="tag", transport="udp", server="10.10.0.3", port=53, middlebox="10.10.0.6")
        ]
        state = MirrorStatus(id="tag", state="installed", dpid=1, port=4, packets=12, bytes=900)
        ryu.send(SteeringReport(generation=wanted.generation, mirrors=[state]))
        eventually(
            lambda: service.get("/intents/tag")["mirrors"][0]["state"] == "installed", "installed"
        )
        assert service.get("/intents/tag")["mirrors"][0]["packets"] == 12

        service.restart_after_kill()
        with Application(service) as successor:
            again = successor.steering()
            assert again == wanted, "a restart changes neither the set nor its number"
        with service.client() as client:
            client.delete("/intents/tag")
        with Application(service) as third:
            last = eventually(lambda: (s := third.steering()) and not s.mirrors and s, "withdrawn")
            assert last.generation > wanted.generation


def test_the_newest_application_wins(service: Service) -> None:
    with Application(service) as old, Application(service) as new:
        assert new.steering() is not None
        assert old.steering() is not None
        assert old.steering() is None, "the old connection is closed"
        new.send(Switches(connected=[7]))
        eventually(lambda: service.get("/status")["switches"] == [7], "the new one is heard")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!I", 2**31),
        encode({"type": "switches", "connected": "x"}),
        struct.pack("!I", 1) + b"\xc1",
    ],
)
def test_garbage_ends_the_connection_only(service: Service, garbage: bytes) -> None:
    with Application(service) as bad:
        bad.socket.sendall(garbage)
        while bad.steering() is not None:
            pass
    with Application(service) as good:
        assert good.steering() is not None
        eventually(lambda: service.get("/status")["application_connected"], "connected")
    assert "Traceback" not in service.log.read_text()


def test_the_service_stays_while_an_application_is_connected(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "switches.sock"
        server = SwitchServer(lambda: Steering(generation=1))
        serving = asyncio.create_task(server.run(path))
        await asyncio.sleep(0)
        _, writer = await asyncio.open_unix_connection(path)
        leaving = asyncio.create_task(server.deserted(0.2))
        await asyncio.sleep(0.6)
        assert server.connected
        assert not leaving.done()
        writer.close()
        await asyncio.wait_for(leaving, PATIENCE)
        serving.cancel()

    asyncio.run(test())
