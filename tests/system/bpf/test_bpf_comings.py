"""Interfaces that come later, namespaces that are gone, a tap that was built anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host_agent import bpf_tap
from host_agent.bpf_tap import BpfTap
from mininet_topos.namespaces import inside
from tests.system.bpf.kit import (
    PORT,
    QUERY,
    SERVER,
    TAG_DIG,
    TIMEOUT,
    Host,
    Wire,
    Wiretap,
    named,
    one_wire,
    run,
    unique,
    veth_pair,
)
from wire.artifact import Artifact

pytestmark = pytest.mark.system


@one_wire
def test_interface_that_comes_after_a_set_is_customized_too(wire: Wire) -> None:
    """The agent asks every second what is in force; that is when it is seen."""
    client = wire.client
    with inside(client.namespace):
        tap = BpfTap(client.run)
        tap.start()
        tap.load_artifact(client.artifacts["dns_app_tag"])
        tap.apply([client.customization("dns_app_tag", send=True, process="dig")])
        run("ip", "link", "add", "late0", "type", "veth", "peer", "name", "eth1",
            "netns", wire.server.namespace)  # fmt: skip
        run("ip", "link", "set", "late0", "up")
        run("ip", "address", "add", "10.95.0.1/24", "dev", "late0")
        run("ip", "neigh", "add", "10.95.0.2", "lladdr", "02:00:00:00:00:01", "dev", "late0")
        assert [one.send for one in tap.customizations()] == [True]
    with inside(wire.server.namespace):
        run("ip", "link", "set", "eth1", "up")
        wiretap = Wiretap("eth1")
    try:
        sender = client.udp("dig")
        with named("dig"):
            sender.sendto(QUERY, ("10.95.0.2", PORT))
        assert wiretap.next().payload == TAG_DIG + QUERY
    finally:
        wiretap.close()


@one_wire
def test_module_that_comes_later_is_asked_after_the_one_that_is_there(wire: Wire) -> None:
    """Two modules, built apart and loaded at different times, on a socket that is open."""
    server = wire.server
    tag = server.customization("dns_app_tag", number=1, receive=True, process="dnsmasq")
    server.apply(tag)
    receiver, sender = server.udp("dnsmasq", PORT), wire.client.udp("plain")
    marked = QUERY[:1] + b"\xa5x\x5a" + QUERY[1:]
    wire.carry(sender, "plain", marked)
    assert receiver.recv(2048) == marked
    mark = server.customization(
        "odd_mark", number=2, receive=True, process="dnsmasq", priority=200, parameters=b"x"
    )
    server.apply(tag, mark)
    for message in (marked, TAG_DIG + QUERY, QUERY):
        wire.carry(sender, "plain", message)
        assert receiver.recv(2048) == QUERY
    first, second = server.counters()
    assert (first.received, second.received, second.passed) == (1, 1, 1)
    server.apply(mark)
    wire.carry(sender, "plain", marked)
    assert receiver.recv(2048) == QUERY


def test_namespace_that_is_gone_leaves_nothing(
    tap_run: Path, artifacts: dict[str, Artifact]
) -> None:
    """Its agent was killed with it; the next agent that applies or starts takes its set away."""
    with veth_pair(unique("tapx"), offload=True) as (stays, _):
        host = Host(stays, tap_run, artifacts)
        host.apply(host.customization("dns_app_tag", number=1, send=True))
        for again in range(2):
            with veth_pair(unique(f"gone{again}"), offload=True) as (goes, _):
                gone = Host(goes, tap_run, artifacts)
                gone.apply(gone.customization("odd_mark", number=2, send=True))
                with inside(goes):
                    BpfTap(tap_run).load_artifact(artifacts["probe"])  # held, and never applied
                assert bpf_tap.status(tap_run).namespaces == 2

            def look(again: int = again) -> bool:
                if again:
                    host.apply(host.customization("dns_app_tag", number=1, send=True))
                else:
                    with inside(stays):
                        BpfTap(tap_run).start()
                status = bpf_tap.status(tap_run)
                return (status.namespaces, status.modules) == (1, ("dns_app_tag",))

            assert eventually(look), bpf_tap.status(tap_run)


def test_module_that_a_dead_namespace_held_is_freed(
    tap_run: Path, artifacts: dict[str, Artifact]
) -> None:
    with veth_pair(unique("gone"), offload=True) as (goes, _), inside(goes):
        BpfTap(tap_run).load_artifact(artifacts["probe"])
    with veth_pair(unique("tapx"), offload=True) as (stays, _), inside(stays):

        def look() -> bool:
            BpfTap(tap_run).start()
            return bpf_tap.status(tap_run).modules == ()

        assert eventually(look)


def eventually(look: Callable[[], bool]) -> bool:
    """Whether something is so within a while: the kernel takes namespaces down some time later."""
    until = time.monotonic() + TIMEOUT
    while not (done := look()) and time.monotonic() < until:
        time.sleep(0.1)
    return done


def test_tap_that_was_built_anew_replaces_one_without_customizations(
    bare_run: Path,
    tap_object: Path,
    tmp_path: Path,
    artifacts: dict[str, Artifact],
    caplog: pytest.LogCaptureFixture,
) -> None:
    older = tmp_path / "older.o"
    older.write_bytes(tap_object.read_bytes() + b"\0")  # what is behind an object file is nothing
    bpf_tap.install(bare_run, older)
    with veth_pair(unique("tapx"), offload=True) as (client, server):
        host = Host(client, bare_run, artifacts)
        with Wire(host, Host(server, bare_run, artifacts)) as wire, inside(client):
            tap = BpfTap(bare_run, older)
            tap.start()
            tap.load_artifact(artifacts["dns_app_tag"])
            tap.apply([host.customization("dns_app_tag", send=True)])
            with caplog.at_level(logging.WARNING, "host_agent.bpf_install"):
                newer = BpfTap(bare_run, tap_object)
                newer.start()
            assert "another build of the tap" in caplog.text
            assert wire.carry(host.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY
            newer.stop()
            caplog.clear()
            newer.start()
            newer.start()
            assert "another build" not in caplog.text
            newer.load_artifact(artifacts["dns_app_tag"])
            newer.apply([host.customization("dns_app_tag", send=True, remote=f"{SERVER}/32")])
            assert wire.carry(host.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY
