"""The agent's driver of the kernel tap, in a guest: what checks/dca.sh runs, in one process.

It has l45.ko and modules in /run/vm. Any exception is a failure.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pyroute2.netlink.exceptions import NetlinkError

from host_agent import kmod_tap
from host_agent.kmod_netlink import L45, Event
from host_agent.kmod_tap import KmodTap
from host_agent.tap import TapError
from wire.artifact import Artifact
from wire.challenge import Challenge
from wire.match import Match
from wire.messages import Counters, Customization, Status

BUILT = Path("/run/vm")
RELEASE = os.uname().release
PORT = 4545
KEY, TOKEN = bytes(range(32)), b"8 bytes."
INTERVAL = 1000
PARAMETERS = (7).to_bytes(8, "little") + INTERVAL.to_bytes(4, "little")
MESSAGE = os.urandom(100_000)
NOBODY = 65534


def main() -> None:
    tap = KmodTap(core=BUILT / "l45.ko")
    for check in (loads, customizes, changes, answers, refuses, obeys_root_only, leaves):
        check(tap)
        print("passed:", check.__name__, flush=True)


def artifact(release: str = RELEASE, data: bytes | None = None) -> Artifact:
    file = BUILT / "l45_stream_tag.ko"
    return Artifact("stream_tag", "1.0.0", "kmod", data or file.read_bytes(), release)


def customization(number: int, match: Match, **changes: object) -> Customization:
    fields = {
        "id": f"{number:032x}",
        "intent": "tag",
        "module": "stream_tag",
        "digest": artifact().digest,
        "target": "kmod",
        "match": match,
        "parameters": PARAMETERS,
        "receive": True,
        "send": True,
        "epoch": 3,
        "token": TOKEN,
        "key": KEY,
    }
    return Customization.model_validate(fields | changes)


HERE = str(Path(sys.executable).resolve())
ENDS = customization(1, Match(transport="tcp", uid=0, executable=HERE, local="127.0.0.0/8"))
"""Both ends of what this process says to itself."""
OTHER = customization(
    2,
    Match(transport="tcp", remote="2001:db8::/32", remote_port=80, remote_port_last=90),
    epoch=4,
    key=b"",
)


def loads(tap: KmodTap) -> None:
    assert kmod_tap.unavailable(BUILT / "l45.ko") is None
    tap.start()
    tap.start()
    assert kmod_tap.status().installed
    assert not tap.has_artifact(artifact().digest)
    tap.load_artifact(artifact())
    tap.load_artifact(artifact())
    assert tap.has_artifact(artifact().digest)


def customizes(tap: KmodTap) -> None:
    with L45() as l45:
        l45.listen()
        tap.apply([ENDS, OTHER])
        assert [one.id for one in tap.customizations()] == [ENDS.id, OTHER.id]
        exchange(lambda: look_at(tap))
        names = {event.name for event in happened(l45)}
    assert names == {"applied", "flow-opened", "flow-closed"}, names
    assert tap.flows() == []
    counted = status_of(tap, ENDS).counters
    assert counted.sent_bytes == 2 * len(MESSAGE), counted
    # The last frame of a stream counts when more is asked for, which nobody does.
    assert 0 <= counted.sent_bytes - counted.received_bytes < INTERVAL, counted
    assert status_of(tap, OTHER).counters == Counters()


def happened(l45: L45) -> list[Event]:
    """Return what has happened: a closed socket is told of a moment later."""
    events: list[Event] = []
    for event in l45.events(seconds=30.0):
        events.append(event)
        if sum(one.name == "flow-closed" for one in events) == 2:
            break
    return events


def look_at(tap: KmodTap) -> None:
    """Look at the flows while they are open."""
    flows = tap.flows()
    assert len(flows) == 2, flows
    assert status_of(tap, ENDS).flows == 2
    told = next(flow for flow in flows if flow.remote_port == PORT)
    assert (told.remote, told.state) == ("127.0.0.1", "sends framed, receives framed")
    with L45() as l45:
        client = next(flow for flow in l45.flows() if flow.remote_port == PORT)
    assert client.message() == told
    assert (client.transport, client.tgid, client.uid) == ("tcp", os.getpid(), 0)
    assert client.executable == str(Path(sys.executable).resolve())
    assert (client.send_state, client.receive_state) == ("framed", "framed")
    assert (client.send_id, client.receive_id, client.fault) == (ENDS.id, ENDS.id, "none")
    assert client.opened <= client.sent
    (attached,) = client.attached
    assert (attached.id, attached.counters.sent_bytes) == (ENDS.id, len(MESSAGE))


def exchange(meanwhile: Callable[[], None] = lambda: None) -> None:
    """Send a message to a server of ours, which sends it back; both must come as they went."""
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        thread = threading.Thread(target=echo, args=(listener,))
        thread.start()
        with socket.create_connection(("127.0.0.1", PORT)) as client:
            sender = threading.Thread(target=client.sendall, args=(MESSAGE,))
            sender.start()
            received = b""
            while len(received) < len(MESSAGE):
                received += client.recv(65536)
            sender.join()
            assert received == MESSAGE
            meanwhile()
        thread.join()


def echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def changes(tap: KmodTap) -> None:
    counted = status_of(tap, ENDS).counters
    tap.apply([ENDS.model_copy(update={"active": False, "send": False, "priority": 200}), OTHER])
    other, ends = tap.customizations()
    assert (other.id, ends.id) == (OTHER.id, ENDS.id), "the lowest priority number is first"
    assert (ends.active, ends.send, ends.receive) == (False, False, True)
    exchange()
    assert status_of(tap, ENDS).counters == counted, "it is passed over, and keeps what it counted"
    tap.apply([ENDS.model_copy(update={"deprecated": True}), OTHER])
    assert status_of(tap, ENDS).deprecated
    exchange(lambda: assert_no_flows(tap))
    tap.apply([ENDS, OTHER])


def assert_no_flows(tap: KmodTap) -> None:
    """Nor those of before, which are told of until they have ended."""
    until = time.monotonic() + 10
    while (flows := tap.flows()) and time.monotonic() < until:
        time.sleep(0.1)
    assert flows == []


def status_of(tap: KmodTap, one: Customization) -> Status:
    return next(status for status in tap.customizations() if status.id == one.id)


def answers(tap: KmodTap) -> None:
    nonce = os.urandom(32)
    said = tap.challenge(ENDS.id, nonce)
    assert len(said.build_id) == 20
    asked = Challenge(KEY, nonce, ENDS.id, said.build_id)
    assert asked.is_answered(said.answer)
    refused("out of range", lambda: tap.challenge(ENDS.id, b"short"))
    refused("was given no key", lambda: tap.challenge(OTHER.id, nonce))
    refused("no customization", lambda: tap.challenge("f" * 32, nonce))


def refuses(tap: KmodTap) -> None:
    image = artifact().data
    refused("for kernel 5.10.0, this host runs", lambda: tap.load_artifact(artifact("5.10.0")))
    cut = artifact(data=image[: len(image) // 2])
    refused("kmod tap", lambda: tap.load_artifact(cut))
    elsewhere = image.replace(b"vermagic=" + RELEASE.encode(), b"vermagic=5" + RELEASE.encode()[1:])
    assert elsewhere != image
    refused("is compiled for kernel 5", lambda: tap.load_artifact(artifact(data=elsewhere)))
    stranger = image.replace(b"name=l45_stream_tag\0", b"name=l45_stream_gat\0")
    refused("calls itself l45_stream_gat", lambda: tap.load_artifact(artifact(data=stranger)))
    refused("", lambda: tap.apply([ENDS, ENDS]))
    refused("", lambda: tap.apply([ENDS.model_copy(update={"epoch": 9})]))
    refused("", lambda: tap.apply([ENDS.model_copy(update={"parameters": b"x"})]))
    assert [one.id for one in tap.customizations()] == [ENDS.id, OTHER.id]


def refused(words: str, call: Callable[[], object]) -> None:
    said = None
    try:
        call()
    except TapError as error:
        said = str(error)
    print("  ", said)
    assert said is not None, f"not refused: {words}"
    assert words in said
    assert "Errno" not in said


def obeys_root_only(tap: KmodTap) -> None:
    """In a process without rights everything but the version is refused."""
    if (child := os.fork()) == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with L45() as l45:
            assert l45.info().version == 1
            for call in (l45.code, l45.customizations, l45.flows, lambda: l45.apply([])):
                try:
                    call()
                except NetlinkError as error:
                    print("  ", error)
                else:
                    os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(tap.customizations()) == 2


def leaves(tap: KmodTap) -> None:
    tap.stop()
    tap.stop()
    assert tap.customizations() == []
    assert not tap.has_artifact(artifact().digest)
    assert "l45_stream_tag" not in Path("/proc/modules").read_text()
    kmod_tap.uninstall()
    assert not kmod_tap.installed()
    refused("l45.ko is not loaded", tap.customizations)


if __name__ == "__main__":
    main()
