"""The kernel tap's driver, over a kernel that is one as far as its netlink messages go."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from host_agent import kernel_modules, kmod_tap
from host_agent.kmod_code import UNKNOWN
from host_agent.kmod_tap import KmodTap
from host_agent.tap import TapError, TapStatus
from tests.unit.kmod_kit import BUILD_ID, Kernel, install, module_file
from wire.artifact import Artifact
from wire.challenge import Challenge
from wire.match import Match
from wire.messages import Counters, Customization

RELEASE = os.uname().release
NAME = "l45_stream_tag_0123456789ab"
KEY = bytes(range(32))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel({"l45": "l45"})
    install(kernel, monkeypatch)
    return kernel


@pytest.fixture
def tap(tmp_path: Path, kernel: Kernel) -> KmodTap:
    assert kernel
    return KmodTap(tmp_path / "run")


MakeArtifact = Callable[..., Artifact]


@pytest.fixture
def make(tmp_path: Path) -> MakeArtifact:
    def make(name: str = NAME, salt: int = 0, **changes: Any) -> Artifact:  # noqa: ANN401
        fields: dict[str, Any] = {"name": "stream_tag", "target": "kmod", "kernel": RELEASE}
        data = module_file(tmp_path, name, RELEASE, salt)
        return Artifact(version="1.0.0", data=data, **fields | changes)

    return make


def customization(artifact: Artifact, number: int = 1, **changes: Any) -> Customization:  # noqa: ANN401
    fields = {
        "id": f"{number:032x}",
        "intent": "tag",
        "module": artifact.name,
        "digest": artifact.digest,
        "target": artifact.target,
        "match": Match(transport="tcp", process="curl"),
        "receive": True,
        "send": True,
        "key": KEY,
    }
    return Customization.model_validate(fields | changes)


def test_code_is_loaded_then_instances_are_made_of_it(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact
) -> None:
    artifact = make()
    assert not tap.has_artifact(artifact.digest)
    tap.load_artifact(artifact)
    tap.load_artifact(artifact)
    assert tap.has_artifact(artifact.digest)
    assert kernel.code == [NAME]
    tap.apply([customization(artifact, 1), customization(artifact, 2, send=False)])
    one, two = tap.customizations()
    assert (one.id, one.module, one.digest) == (f"{1:032x}", "stream_tag", artifact.digest)
    assert (one.receive, one.send, one.active, one.deprecated) == (True, True, True, False)
    assert (one.flows, one.counters) == (2, Counters(sent=3, sent_bytes=2**33))
    assert not two.send


def test_another_agent_of_this_kernel_knows_what_is_loaded(
    tap: KmodTap, make: MakeArtifact, tmp_path: Path
) -> None:
    artifact = make()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    again = KmodTap(tmp_path / "run")
    assert again.has_artifact(artifact.digest)
    assert [one.digest for one in again.customizations()] == [artifact.digest]


def test_code_that_nobody_uses_goes(tap: KmodTap, kernel: Kernel, make: MakeArtifact) -> None:
    old, new = make(), make("l45_stream_tag_ba9876543210", salt=1)
    tap.load_artifact(old)
    tap.apply([customization(old)])
    tap.load_artifact(new)
    tap.apply([customization(new, 2)])
    assert kernel.code == ["l45_stream_tag_ba9876543210"]
    assert not tap.has_artifact(old.digest)
    tap.stop()
    assert kernel.drain_ms == 30_000
    assert kernel.code == []
    assert tap.customizations() == []


def test_code_that_another_namespace_uses_stays(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact
) -> None:
    artifact = make()
    tap.load_artifact(artifact)
    kernel.busy.add(NAME)
    tap.apply([])
    assert tap.has_artifact(artifact.digest)


def test_code_that_another_driver_is_about_to_use_stays(
    tap: KmodTap, make: MakeArtifact, tmp_path: Path
) -> None:
    artifact, other = make(), KmodTap(tmp_path / "run")
    other.load_artifact(artifact)
    tap.apply([])
    assert tap.has_artifact(artifact.digest)
    other.apply([customization(artifact)])
    other.apply([])
    assert not tap.has_artifact(artifact.digest)


def test_what_is_drained_is_no_customization_of_ours_but_keeps_its_code(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact
) -> None:
    artifact = make()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    kernel.draining = kernel.sets[-1]
    tap.apply([])
    assert kernel.drain_ms == 300_000
    assert tap.customizations() == []
    assert kernel.code == [NAME]
    kernel.draining = []
    assert tap.customizations() == []
    assert kernel.code == [], "the next look takes it away"


def test_other_bytes_under_a_name_replace_what_is_not_in_use(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact
) -> None:
    one, other = make(), make(salt=1)
    assert one.digest != other.digest
    tap.load_artifact(one)
    tap.load_artifact(other)
    assert (tap.has_artifact(one.digest), tap.has_artifact(other.digest)) == (False, True)
    tap.apply([customization(other)])
    with pytest.raises(TapError, match="loaded already from other bytes, and in use"):
        tap.load_artifact(one)
    assert kernel.code == [NAME]


def test_what_somebody_else_loaded_has_no_digest(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact, tmp_path: Path
) -> None:
    artifact = make()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    (tmp_path / "run" / "kmod" / NAME).unlink()
    assert [one.digest for one in tap.customizations()] == [UNKNOWN]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "bpf"}, "is for 'bpf', not for kmod"),
        ({"kernel": "5.10.0"}, f"is for kernel 5.10.0, this host runs {RELEASE}"),
        ({"kernel": None}, "is for kernel None"),
        ({"name": "nf_tables"}, "artifact stream_tag calls itself nf_tables in the kernel"),
    ],
)
def test_code_that_is_not_for_here_is_refused_before_the_kernel_sees_it(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(TapError, match=words):
        tap.load_artifact(make(**changes))
    assert kernel.code == []


def test_code_for_another_kernel_takes_nobodys_place(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact, tmp_path: Path
) -> None:
    good = make()
    tap.load_artifact(good)
    lying = replace(good, data=module_file(tmp_path, NAME, "5.10.0"))
    with pytest.raises(TapError, match=r"is compiled for kernel 5\.10\.0, this is"):
        tap.load_artifact(lying)
    assert tap.has_artifact(good.digest)


def test_code_that_the_kernel_refuses_leaves_nothing(
    tap: KmodTap, make: MakeArtifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: bytes) -> None:
        raise kernel_modules.ModuleError("the kernel's words")

    monkeypatch.setattr(kernel_modules, "load", refuse)
    with pytest.raises(TapError, match="kmod tap: the kernel's words"):
        tap.load_artifact(make())
    assert list((tmp_path / "run" / "kmod").iterdir()) == []


def test_a_set_that_the_kernel_refuses_is_refused_with_its_words(
    tap: KmodTap, kernel: Kernel, make: MakeArtifact
) -> None:
    artifact = make()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    kernel.refusal = NetlinkError(errno.EINVAL, "two customizations have the same id")
    with pytest.raises(TapError, match="kmod tap: two customizations have the same id"):
        tap.apply([])
    assert len(tap.customizations()) == 1
    kernel.refusal = NetlinkError(errno.EPERM)
    with pytest.raises(TapError, match="CAP_NET_ADMIN is missing in this network namespace"):
        tap.apply([])


def test_a_customization_without_its_code_is_refused(tap: KmodTap, make: MakeArtifact) -> None:
    with pytest.raises(TapError, match="is not loaded"):
        tap.apply([customization(make())])


def test_a_challenge_is_answered_with_the_customizations_key(
    tap: KmodTap, make: MakeArtifact
) -> None:
    artifact = make()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    nonce, identity = os.urandom(16), f"{1:032x}"
    said = tap.challenge(identity, nonce)
    assert said.build_id == BUILD_ID
    asked = Challenge(KEY, nonce, identity, BUILD_ID)
    assert asked.is_answered(said.answer)
    with pytest.raises(TapError, match="no customization has this id"):
        tap.challenge("f" * 32, bytes(16))


def test_without_the_tap_everything_says_so(tap: KmodTap, kernel: Kernel) -> None:
    kernel.modules.clear()
    for call in (tap.customizations, tap.flows, lambda: tap.apply([])):
        with pytest.raises(TapError, match=r"l45.ko is not loaded \(`dca tap load`\)"):
            call()
    tap.stop()
    assert kmod_tap.status() == TapStatus(installed=False)


def test_the_tap_is_loaded_from_a_file_and_unloaded(
    kernel: Kernel, make: MakeArtifact, tmp_path: Path
) -> None:
    kernel.modules.clear()
    core = tmp_path / "core.ko"
    core.write_bytes(module_file(tmp_path, "l45", RELEASE))
    run = tmp_path / "run"
    kmod_tap.install(run, core)
    tap, artifact = KmodTap(run), make()
    tap.start()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    assert kmod_tap.status() == TapStatus(True, None, 1, ("stream_tag",))
    kmod_tap.uninstall(run)
    assert kernel.modules == {}
    assert kernel.drain_ms is not None
    kmod_tap.uninstall(run)


def test_a_tap_that_was_unloaded_is_loaded_again_with_its_code(
    kernel: Kernel, make: MakeArtifact, tmp_path: Path
) -> None:
    core = tmp_path / "core.ko"
    core.write_bytes(module_file(tmp_path, "l45", RELEASE))
    tap, artifact = KmodTap(tmp_path / "run", core), make()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    kmod_tap.uninstall(tmp_path / "run")
    assert kernel.modules == {}
    kernel.sets.clear()
    tap.load_artifact(artifact)
    tap.apply([customization(artifact)])
    assert [one.digest for one in tap.customizations()] == [artifact.digest]


def test_it_is_not_unloaded_under_other_namespaces(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmod_tap, "UNLOAD_DRAIN", 0.0)
    kernel.modules[NAME] = "stream_tag"
    kernel.busy.add(NAME)
    with pytest.raises(TapError, match=f"other network namespaces use {NAME}, or"):
        kmod_tap.uninstall(tmp_path)
    assert "l45" in kernel.modules


def test_where_there_is_no_tap_to_load_it_says_how_to_get_one(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.modules.clear()
    monkeypatch.setattr(kmod_tap, "BUILT", tmp_path)
    assert f"not there for kernel {RELEASE}: install it with DKMS" in str(kmod_tap.unavailable())
    built = tmp_path / RELEASE / "kmod" / "l45.ko"
    built.parent.mkdir(parents=True)
    built.write_bytes(module_file(tmp_path, "l45", RELEASE))
    assert kmod_tap.unavailable() is None
    kmod_tap.install(tmp_path / "run")
    assert list(kernel.modules) == ["l45"]
