"""Intents for the kernel tap: where, for which kernel, with which epochs and secrets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.build import Builder, BuildError
from controller.cli_print import match_text
from controller.config import KERNEL_TAP
from controller.errors import Invalid
from controller.intent import Intent
from controller.phases import Phase
from controller.plan import HostFacts, Plan, Platform, make_plan
from controller.plan_view import plan_view
from controller.switch_server import SwitchServer
from controller.views import Views
from tests.unit.nco_kit import intent, make_module
from tests.unit.nco_world import World
from wire.manifest import Manifest, load
from wire.messages import Target

STREAM = """
name = "stream"
version = "1.0.0"
summary = "For tests: leaves no trace"
transport = "tcp"
targets = ["user", "kmod"]
growth = 0

[client]
send = true
receive = true

[server]
send = true
receive = true
"""

BOTH: tuple[Target, ...] = ("kmod", "bpf")
HOSTS = {
    "h1": HostFacts("h1", ("10.10.0.1",), BOTH, kernel="6.1.0"),
    "dns": HostFacts("dns", ("10.10.0.3",), BOTH, kernel="6.12.0"),
}


def stream(folder: Path) -> Manifest:
    path = folder / "stream" / "manifest.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STREAM)
    return load(path)


def datagrams(folder: Path) -> Manifest:
    make_module(folder)
    path = folder / "idle" / "manifest.toml"
    path.write_text(path.read_text().replace('"bpf"]', '"bpf", "kmod"]'))
    return load(path)


def planned(manifest: Manifest, hosts: dict[str, HostFacts] | None = None, **fixed: Any) -> Plan:  # noqa: ANN401
    wanted = Intent.model_validate(intent(module=manifest.name, port=80))
    return make_plan(wanted, manifest, hosts or HOSTS, uuid.UUID(int=1), **fixed)


def test_the_hosts_preference_decides(tmp_path: Path) -> None:
    manifest = datagrams(tmp_path)
    assert [c.platform for c in planned(manifest).customizations] == [
        Platform("kmod", "6.12.0"),
        Platform("kmod", "6.1.0"),
    ]
    other_way = {name: replace(facts, targets=BOTH[::-1]) for name, facts in HOSTS.items()}
    assert {c.platform for c in planned(manifest, other_way).customizations} == {Platform("bpf")}


def test_what_the_nco_cannot_compile_for_is_passed_over(tmp_path: Path) -> None:
    def lacking(platform: Platform) -> str | None:
        return f"no headers of {platform}" if platform.target == "kmod" else None

    plan = planned(datagrams(tmp_path), lacking=lacking)
    assert {c.platform for c in plan.customizations} == {Platform("bpf")}
    with pytest.raises(Invalid, match=r"stream on host dns: no headers of kmod 6\.12\.0"):
        planned(stream(tmp_path), lacking=lacking)


@pytest.mark.parametrize("asked", [{"executable": "/usr/bin/dig"}, {"uid": 1000}])
def test_both_taps_match_by_program_and_user(tmp_path: Path, asked: dict[str, Any]) -> None:
    manifest = datagrams(tmp_path)
    wanted = Intent.model_validate(intent(module="idle", port=80, client=[{"host": "h1", **asked}]))
    bpf_first = {name: replace(facts, targets=BOTH[::-1]) for name, facts in HOSTS.items()}
    server, client = make_plan(wanted, manifest, bpf_first, uuid.UUID(int=1)).customizations
    assert (server.target, client.target) == ("bpf", "bpf")
    assert client.match.model_dump().items() >= asked.items()
    assert str(next(iter(asked.values()))) in match_text(client.match)


def test_sockets_stay_with_the_tap_that_has_them(tmp_path: Path) -> None:
    settled = {name: replace(facts, settled={"udp": "bpf"}) for name, facts in HOSTS.items()}
    plan = planned(datagrams(tmp_path), settled)
    assert {c.target for c in plan.customizations} == {"bpf"}
    plan = planned(stream(tmp_path), settled)
    assert {c.target for c in plan.customizations} == {"kmod"}
    settled["dns"] = replace(HOSTS["dns"], settled={"tcp": "bpf"})
    with pytest.raises(Invalid, match="beside what is there: the bpf tap has its tcp sockets"):
        planned(stream(tmp_path), settled)


def test_a_host_without_the_kernel_tap_says_why(tmp_path: Path) -> None:
    bare = {**HOSTS, "dns": HostFacts("dns", ("10.10.0.3",), ("bpf",), "kmod: takes no modules")}
    with pytest.raises(Invalid, match=r"host runs bpf \(kmod: takes no modules\)"):
        planned(stream(tmp_path), bare)


def test_both_sides_of_a_stream_share_epoch_and_token_and_no_key(tmp_path: Path) -> None:
    plan = planned(stream(tmp_path), epoch=9)
    server, client = plan.customizations
    assert (server.epoch, server.token) == (client.epoch, client.token)
    assert (server.epoch, len(server.token)) == (9, 8)
    assert {len(server.key), len(client.key)} == {32}
    assert server.key != client.key
    assert planned(stream(tmp_path)).customizations[0].token != server.token
    assert repr(server.token) not in repr(plan)
    assert repr(server.key) not in repr(plan)


def test_datagrams_have_no_epoch_and_no_token(tmp_path: Path) -> None:
    for one in planned(datagrams(tmp_path), epoch=9).customizations:
        assert (one.epoch, one.token, len(one.key)) == (0, b"", 32)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    stream(tmp_path / "modules")
    for host in world.hosts.values():
        host.targets = list(BOTH)
    world.hosts["h1"].kernel = "6.12.0"
    world.run_down()
    yield world
    world.close()


def ask(world: World, name: str = "one") -> None:
    world.nco.apply(Intent.model_validate(intent(name, module="stream", port=80)))


def test_each_host_gets_code_for_its_kernel(world: World) -> None:
    ask(world)
    (order,) = world.nco.to_build()
    assert order.platforms == {Platform("kmod", "6.1.0"), Platform("kmod", "6.12.0")}
    world.run_down()
    assert world.phase("one") == Phase.ACTIVE
    kernels = {}
    for name in ("h1", "dns"):
        (one,) = world.hosts[name].applied.values()
        artifact = world.nco.artifact_for(name, one.digest)
        assert artifact is not None
        kernels[name] = artifact.kernel
    assert kernels == {"h1": "6.12.0", "dns": "6.1.0"}


def test_a_host_that_boots_another_kernel_gets_code_for_that(world: World) -> None:
    ask(world)
    world.run_down()
    host = world.hosts["h1"]
    (before,) = host.applied.values()
    world.disconnect("h1")
    host.kernel, host.applied, host.generation = "6.13.0", {}, 0
    world.connect("h1")
    world.settle()
    row = world.cib.intent("one")
    assert row is not None
    assert world.nco.waiting(row) == {"h1": "stream is being built for kmod 6.13.0"}
    world.kill()
    world.run_down()
    (after,) = host.applied.values()
    assert (after.id, after.send, after.epoch) == (before.id, True, before.epoch)
    assert after.digest != before.digest
    assert world.phase("one") == Phase.ACTIVE
    assert world.nco.to_build() == []


def test_a_kernel_that_nothing_can_be_built_for_fails_the_intent(world: World) -> None:
    ask(world)
    world.run_down()
    world.disconnect("h1")
    world.hosts["h1"].kernel = "6.13.0"
    world.connect("h1")
    (order,) = world.nco.to_build()
    world.nco.build_failed(order, "no headers of kernel 6.13.0")
    world.run_down()
    row = world.cib.intent("one")
    assert row is not None
    assert row.phase == Phase.FAILED
    assert row.error is not None
    assert "no headers of kernel 6.13.0" in row.error
    assert all(not host.applied for host in world.hosts.values())


def test_no_epoch_of_a_module_comes_back(world: World) -> None:
    epochs = []
    for _ in range(3):
        ask(world)
        world.run_down()
        (one,) = world.hosts["h1"].applied.values()
        epochs.append(one.epoch)
        world.nco.revoke("one")
        world.run_down()
        world.kill()
    assert epochs == [1, 2, 3]


def test_an_epoch_that_is_in_use_is_passed_over(world: World) -> None:
    ask(world)
    world.run_down()
    state = world.cib.intent("one")
    assert state is not None
    for items in state.deployments[0].items.values():
        items[:] = [replace(one, epoch=2) for one in items]
    assert world.cib.next_epoch("stream") == 3
    assert world.cib.next_epoch("other") == 1


def test_epochs_begin_again_after_the_last_and_none_is_zero(world: World) -> None:
    """0 is said of what has no epoch."""
    world.cib._content.epochs["stream"] = 65534
    ask(world)
    world.run_down()
    (last,) = world.hosts["h1"].applied.values()
    assert (last.epoch, world.cib.next_epoch("stream")) == (65535, 1)
    world.cib._content.epochs["stream"] = 65534
    assert world.cib.next_epoch("stream") == 1, "the last is in use"
    world.nco.revoke("one")
    world.run_down()
    assert world.cib.next_epoch("stream") == 1, "kernels may still drain its streams"


def test_secrets_reach_the_host_and_no_view(world: World) -> None:
    ask(world)
    world.run_down()
    (one,) = world.hosts["h1"].applied.values()
    assert (len(one.key), len(one.token)) == (32, 8)

    async def views() -> Views:
        return Views(world.nco, SwitchServer(world.nco.steering))

    shown = asyncio.run(views()).intent("one")
    wanted = Intent.model_validate(intent("two", module="stream", port=81))
    planned_view = plan_view(wanted, world.nco.plan(wanted), [], {}, [])
    for text in (str(shown.model_dump()), str(planned_view.model_dump())):
        assert "'key'" not in text
        assert "'token'" not in text
    at_h1 = next(host for host in shown.hosts if host.name == "h1").customizations[0]
    assert (at_h1.target, at_h1.kernel) == ("kmod", "6.12.0")


def headers(folder: Path, release: str = "6.1.0") -> Path:
    build = folder / "lib" / release / "build"
    build.mkdir(parents=True)
    (build / ".config").write_text("CONFIG_MODULES=y\n")
    (build / "Module.symvers").write_text("0x1 printk vmlinux EXPORT_SYMBOL\n")
    return build


def key(builder: Builder, platform: Platform) -> str:
    return asyncio.run(builder.key("stream_tag", platform))


def test_each_kernel_has_its_own_build_and_its_headers_count(tmp_path: Path) -> None:
    builder = Builder(KERNEL_TAP / "modules", KERNEL_TAP, 60, tmp_path / "lib")
    symbols = headers(tmp_path) / "Module.symvers"
    headers(tmp_path, "6.12.0")
    one = key(builder, Platform("kmod", "6.1.0"))
    assert one == key(builder, Platform("kmod", "6.1.0"))
    assert one != key(builder, Platform("kmod", "6.12.0"))
    assert one != key(builder, Platform("bpf"))
    symbols.write_text("0x2 printk vmlinux EXPORT_SYMBOL\n")
    assert one != key(builder, Platform("kmod", "6.1.0"))


def test_missing_headers_are_named_with_their_package(tmp_path: Path) -> None:
    builder = Builder(KERNEL_TAP / "modules", KERNEL_TAP, 60, tmp_path)
    with pytest.raises(BuildError, match=r"apt-get install linux-headers-6\.1\.0-9-amd64"):
        key(builder, Platform("kmod", "6.1.0-9-amd64"))
    assert builder.lacking(Platform("bpf")) is None
    headers(tmp_path, "6.1.0-9-amd64")
    assert (
        replace(builder, headers=tmp_path / "lib").lacking(Platform("kmod", "6.1.0-9-amd64"))
        is None
    )


@pytest.mark.parametrize("release", ["", "../6.1.0", "6.1/../..", "$(shell id)", "6.1 x", "6" * 70])
def test_a_release_that_leads_elsewhere_is_refused(tmp_path: Path, release: str) -> None:
    builder = Builder(KERNEL_TAP / "modules", KERNEL_TAP, 60, tmp_path)
    with pytest.raises(BuildError, match="is not the release of a kernel"):
        key(builder, Platform("kmod", release))
