"""Installing, adopting, dying at the wrong moment, refusing, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from host_agent import bpf_tables, bpf_tap
from host_agent.bpf_install import CGROUP_HOOKS
from host_agent.bpf_tap import BpfTap
from host_agent.tap import TapError
from mininet_topos.namespaces import inside
from tests.system.bpf.kit import (
    CLIENT,
    PORT,
    QUERY,
    ROOT,
    SERVER,
    TAG_DIG,
    Host,
    Wire,
    build_module,
    named,
    one_wire,
    run,
    unique,
    veth_pair,
)
from wire.artifact import Artifact

pytestmark = pytest.mark.system


CLSACT = "qdisc clsact ffff: parent ffff:fff1"


def filters(namespace: str) -> str:
    within = ("ip", "netns", "exec", namespace, "tc")
    both = [run(*within, "filter", "show", "dev", "eth0", way) for way in ("ingress", "egress")]
    return "".join(both) + run(*within, "qdisc", "show", "dev", "eth0", "clsact")


@one_wire
def test_another_driver_adopts_what_runs(wire: Wire) -> None:
    wire.tag()
    sender = wire.client.udp("dig")
    wire.carry(sender, "dig", QUERY)
    with inside(wire.client.namespace):
        before = BpfTap(wire.client.run).customizations()
        second = BpfTap(wire.client.run)
        second.start()
        assert second.customizations() == before
        assert second.has_artifact(before[0].digest)
    assert (before[0].module, before[0].send, before[0].receive) == ("dns_app_tag", True, False)
    assert before[0].counters.sent == 1
    assert wire.carry(sender, "dig", QUERY).payload == TAG_DIG + QUERY


@one_wire
def test_applying_nothing_unloads(wire: Wire) -> None:
    wire.tag()
    sender = wire.client.udp("dig")
    wire.carry(sender, "dig", QUERY)
    wire.client.apply()
    assert wire.carry(sender, "dig", QUERY).payload == QUERY
    assert wire.client.counters() == []
    # It stays for the agent's life: the kernel drops what leaves while it comes or goes.
    assert filters(wire.client.namespace).strip() == CLSACT
    assert bpf_tap.status(wire.client.run).modules == ("dns_app_tag",)  # the server's
    wire.server.apply()
    assert bpf_tap.status(wire.client.run) == bpf_tap.TapStatus(installed=True)


@one_wire
def test_loaded_but_not_applied_yet_is_kept_for_its_host(wire: Wire) -> None:
    """Hosts of a kernel share the dispatch table; another's apply must not free what we loaded."""
    artifact = wire.client.artifacts["dns_app_tag"]
    with inside(wire.client.namespace):
        tap = BpfTap(wire.client.run)
        tap.start()
        tap.load_artifact(artifact)
        wire.server.apply(wire.server.customization("odd_mark", receive=True))
        assert tap.has_artifact(artifact.digest)
        tap.stop()
        assert not tap.has_artifact(artifact.digest)


@one_wire
def test_what_two_hosts_loaded_is_not_freed_by_the_one_that_is_done_with_it(wire: Wire) -> None:
    tag = wire.client.customization("dns_app_tag", send=True)
    wire.server.apply(wire.server.customization("dns_app_tag", receive=True))
    with inside(wire.client.namespace):
        tap = BpfTap(wire.client.run)
        tap.load_artifact(wire.client.artifacts["dns_app_tag"])
        wire.server.apply()
        tap.apply([tag])
    assert wire.carry(wire.client.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY
    wire.client.apply()
    assert bpf_tap.status(wire.client.run).modules == ()


@one_wire
def test_stop_leaves_no_trace_in_the_namespace(wire: Wire) -> None:
    wire.tag()
    assert "l45_egress" in filters(wire.client.namespace)
    wire.client.stop()
    wire.client.stop()
    assert filters(wire.client.namespace) == ""
    assert wire.carry(wire.client.udp("dig"), "dig", QUERY).payload == QUERY


DROP_PORT_54 = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int drop_port_54(struct __sk_buff *skb)
{
	__u16 port = 0;

	bpf_skb_load_bytes(skb, 14 + 20 + 2, &port, sizeof(port));
	return port == bpf_htons(54) ? TC_ACT_SHOT : TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
"""


@one_wire
def test_filters_of_others_are_asked_too_and_stay(wire: Wire, tmp_path: Path) -> None:
    wire.tag()
    within = ("ip", "netns", "exec", wire.client.namespace, "tc")
    built("drop", DROP_PORT_54, tmp_path)
    run(*within, "filter", "add", "dev", "eth0", "egress", "prio", "100",
        "bpf", "da", "obj", str(tmp_path / "drop.o"), "sec", "tc")  # fmt: skip
    sender = wire.client.udp("dig")
    with named("dig"):
        sender.sendto(QUERY, (SERVER, 54))
    assert wire.carry(sender, "dig", QUERY).payload == TAG_DIG + QUERY
    wire.client.stop()
    assert "drop" in filters(wire.client.namespace)
    assert "l45" not in filters(wire.client.namespace)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_child(work: Callable[[], None]) -> None:
    """Do `work` in a forked process that must be killed in it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@one_wire
@pytest.mark.parametrize(
    ("step", "new_set"),
    [("_write_module", False), ("_replace", False), ("sweep", True)],
)
def test_killed_while_applying(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, step: str, new_set: bool
) -> None:
    """The old set or the new one is in force, and the next driver finds nothing in its way."""
    wire.client.apply(wire.client.customization("dns_app_tag", send=True, process="dig"))
    mark = wire.client.customization("odd_mark", number=2, send=True, parameters=b"k")
    marked = QUERY[:1] + b"\xa5k\x5a" + QUERY[1:]

    def apply_and_die() -> None:
        monkeypatch.setattr(bpf_tables.Tables, step, die)
        wire.client.apply(mark)

    sender = wire.client.udp("dig")
    dying_child(apply_and_die)
    expected = marked if new_set else TAG_DIG + QUERY
    assert wire.carry(sender, "dig", QUERY).payload == expected
    wire.client.apply(mark)
    assert wire.carry(sender, "dig", QUERY).payload == marked
    assert bpf_tap.status(wire.client.run).modules == ("odd_mark",)
    assert bpf_tap.status(wire.client.run).customizations == 1


def test_killed_while_installing(
    bare_run: Path, tap_object: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install_and_die() -> None:
        monkeypatch.setattr("host_agent.libbpf.run_iterator", die)
        bpf_tap.install(bare_run, tap_object)

    dying_child(install_and_die)
    assert not bpf_tap.installed(bare_run)
    bpf_tap.install(bare_run, tap_object)
    assert bpf_tap.installed(bare_run)
    assert len(list((bare_run / "bpf" / "links").iterdir())) == len(CGROUP_HOOKS)


def test_socket_opened_before_the_tap(
    bare_run: Path, tap_object: Path, artifacts: dict[str, Artifact]
) -> None:
    with veth_pair(unique("tapx"), offload=True) as (client, server):
        hosts = Host(client, bare_run, artifacts), Host(server, bare_run, artifacts)
        with Wire(*hosts) as wire, named("dnsmasq"):
            receiver = wire.server.udp("dnsmasq", PORT)
            bpf_tap.install(bare_run, tap_object)
            wire.tag()
            assert wire.carry(wire.client.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY
            assert receiver.recv(2048) == QUERY


OTHER_OBJECT = """
#include <l45/module.h>
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} own_map SEC(".maps");
static enum l45_verdict callback(struct l45_msg *msg)
{
	__u32 key = l45_len(msg);
	return bpf_map_lookup_elem(&own_map, &key) ? L45_PASS : L45_NEXT;
}
L45_MODULE(own_map, callback, callback)
"""

UNSAFE_MODULE = """
#include <l45/module.h>
static enum l45_verdict callback(struct l45_msg *msg)
{
	char *anywhere = (char *)(unsigned long)l45_len(msg);
	return *anywhere;
}
L45_MODULE(unsafe, callback, callback)
"""


def built(name: str, source: str, folder: Path) -> Artifact:
    (folder / f"{name}.c").write_text(source)
    return build_module(name, folder / f"{name}.c", folder)


@one_wire
def test_refused_artifacts_change_nothing(wire: Wire, tap_object: Path, tmp_path: Path) -> None:
    wire.client.apply(wire.client.customization("dns_app_tag", send=True, process="dig"))
    pins = sorted(path.name for path in (wire.client.run / "bpf" / "maps").iterdir())
    refused = {
        "invalid mem access": built("unsafe", UNSAFE_MODULE, tmp_path),
        "brings maps of its own": built("own_map", OTHER_OBJECT, tmp_path),
        "is no module": Artifact("tap", "1.0.0", "bpf", tap_object.read_bytes()),
        "not a BPF object": Artifact("junk", "1.0.0", "bpf", b"\x7fELF" + bytes(100)),
        "for 'user'": Artifact("other", "1.0.0", "user", b""),
    }
    with inside(wire.client.namespace):
        tap = BpfTap(wire.client.run)
        for reason, artifact in refused.items():
            with pytest.raises(TapError, match=reason):
                tap.load_artifact(artifact)
            assert not tap.has_artifact(artifact.digest)
    assert sorted(path.name for path in (wire.client.run / "bpf" / "maps").iterdir()) == pins
    assert wire.carry(wire.client.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY


@one_wire
def test_refused_sets_change_nothing(wire: Wire) -> None:
    host = wire.client
    good = host.customization("dns_app_tag", send=True, process="dig")
    host.apply(good)
    refused = {
        "is not loaded": host.customization("dns_app_tag", number=2).model_copy(
            update={"digest": "0" * 64}
        ),
        "has no tcp": host.customization("dns_app_tag", number=2, transport="tcp"),
        "same id": good.model_copy(update={"priority": 1}),
    }
    with inside(host.namespace):
        tap = BpfTap(host.run)
        for reason, customization in refused.items():
            with pytest.raises(TapError, match=reason):
                tap.apply([good, customization])
        assert [status.id for status in tap.customizations()] == [good.id]
    assert wire.carry(host.udp("dig"), "dig", QUERY).payload == TAG_DIG + QUERY


def test_uninstall_leaves_nothing(bare_run: Path, tap_object: Path) -> None:
    bpf_tap.install(bare_run, tap_object)
    bpf_tap.install(bare_run, tap_object)
    assert bpf_tap.status(bare_run) == bpf_tap.TapStatus(installed=True)
    bpf_tap.uninstall(bare_run)
    bpf_tap.uninstall(bare_run)
    assert not bpf_tap.installed(bare_run)
    assert str(bare_run) not in Path("/proc/self/mounts").read_text()
    assert [path.name for path in bare_run.iterdir()] == ["lock"]


def test_missing_object_says_how_to_build_it(bare_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TapError, match="make setup"):
        bpf_tap.install(bare_run, tmp_path / "none.o")
    assert not bpf_tap.installed(bare_run)


START = """
import sys
from pathlib import Path
from host_agent.bpf_install import CGROUP_HOOKS
from host_agent.bpf_tap import BpfTap
tap = BpfTap(Path(sys.argv[1]), Path(sys.argv[2]))
tap.start()
print(tap.customizations())
"""


def test_start_behind_private_mounts(bare_run: Path, tap_object: Path) -> None:
    """`ip netns exec` hides the cgroups as Mininet does: start needs the tap from outside."""
    with veth_pair(unique("tapx"), offload=True) as (client, _):
        command = ["ip", "netns", "exec", client, sys.executable, "-c", START]
        arguments = [*command, str(bare_run), str(tap_object)]
        alone = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "dca tap load" in alone.stderr
        bpf_tap.install(bare_run, tap_object)
        assert run(*arguments) == "[]\n"


def test_tap_of_another_version_is_refused_and_can_be_unloaded(
    bare_run: Path, tap_object: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bpf_tap.install(bare_run, tap_object)
    with monkeypatch.context() as newer:
        newer.setattr(bpf_tables, "CountersStruct", bpf_tables.ModuleStruct)
        with pytest.raises(TapError, match="another version of the tap"):
            BpfTap(bare_run, tap_object).start()
        bpf_tap.uninstall(bare_run)
    assert not bpf_tap.installed(bare_run)


def test_start_installs_where_it_can(bare_run: Path, tap_object: Path) -> None:
    with veth_pair(unique("tapx"), offload=True) as (client, _), inside(client):
        tap = BpfTap(bare_run, tap_object)
        with pytest.raises(TapError, match="start it first"):
            tap.customizations()
        tap.start()
        assert tap.customizations() == []
        tap.stop()


def test_bridge_over_an_interface_is_customized_once(
    tap_run: Path, artifacts: dict[str, Artifact]
) -> None:
    with veth_pair(unique("tapx"), offload=True) as (client, server):
        host = Host(client, tap_run, artifacts)
        within = ("ip", "netns", "exec", client, "ip")
        run(*within, "address", "flush", "dev", "eth0")
        run(*within, "link", "add", "br0", "type", "bridge")
        run(*within, "link", "set", "eth0", "master", "br0")
        run(*within, "link", "set", "br0", "up")
        run(*within, "address", "add", f"{CLIENT}/24", "dev", "br0")
        with Wire(host, Host(server, tap_run, artifacts)) as wire:
            host.apply(host.customization("odd_mark", send=True, receive=True, parameters=b"b"))
            sender, receiver = host.udp("dig"), wire.server.udp("plain", PORT)
            marked = QUERY[:1] + b"\xa5b\x5a" + QUERY[1:]
            assert wire.carry(sender, "dig", QUERY).payload == marked
            message, peer = receiver.recvfrom(2048)
            receiver.sendto(message, peer)
            assert sender.recv(2048) == QUERY


def test_an_object_of_another_version_is_refused_with_the_remedy(
    bare_run: Path, tmp_path: Path, artifacts: dict[str, Artifact]
) -> None:
    other = tmp_path / "other.o"
    other.write_bytes(artifacts["dns_app_tag"].data)
    with pytest.raises(TapError, match=r"of another version: .*`make build`"):
        bpf_tap.install(bare_run, other)
    assert not bpf_tap.installed(bare_run)
