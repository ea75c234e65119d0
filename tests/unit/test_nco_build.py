"""Builds: by real clang, cached by content, reproducible; and the store of artifacts."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller.artifacts import ArtifactStore
from controller.build import MAX_OBJECT, Builder, BuildError
from controller.config import KERNEL_TAP
from controller.plan import Platform
from tests.unit.nco_kit import make_module, opened
from wire.artifact import Artifact, ArtifactError, verified

SOURCE = "#include <l45/mine.h>\nint idle(int x) { return x + MINE; }\nchar file[] = __FILE__;\n"


def make_builder(folder: Path, time_limit: float = 60) -> Builder:
    """Return a builder for a small SDK and a module that uses it."""
    sdk = folder / "sdk"
    for name in ("bpf", "core"):
        (sdk / name).mkdir(parents=True)
    header = sdk / "include" / "l45" / "mine.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define MINE 1\n")
    make_module(folder / "modules", source=SOURCE)
    return Builder(folder / "modules", sdk, time_limit)


BPF = Platform("bpf")


def key(builder: Builder, platform: Platform = BPF) -> str:
    return asyncio.run(builder.key("idle", platform))


def compiled(builder: Builder, module: str = "idle") -> bytes:
    return asyncio.run(builder.compile(module, BPF, "0" * 64))


def test_the_same_sources_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    one, other = make_builder(tmp_path / "one"), make_builder(tmp_path / "other" / "deeper")
    assert key(one) == key(other)
    assert compiled(one) == compiled(other)
    assert str(tmp_path).encode() not in compiled(one)
    assert compiled(one)[:4] == b"\x7fELF"


def test_the_real_module_is_reproducible_too(tmp_path: Path) -> None:
    copy = tmp_path / "kernel_tap"
    shutil.copytree(KERNEL_TAP, copy)
    here, there = (
        Builder(KERNEL_TAP / "modules", KERNEL_TAP, 60),
        Builder(copy / "modules", copy, 60),
    )
    objects = {compiled(builder, "dns_app_tag") for builder in (here, there)}
    assert len(objects) == 1
    assert b".BTF" in objects.pop()


@pytest.mark.parametrize("path", ["modules/idle/module.c", "sdk/include/l45/mine.h"])
def test_what_goes_in_changes_the_key(tmp_path: Path, path: str) -> None:
    builder = make_builder(tmp_path)
    before = key(builder)
    file = tmp_path / path
    text = file.read_text()
    file.write_text(text + "\n")
    assert key(builder) != before
    file.write_text(text)
    assert key(builder) == before


def test_the_compilers_words_are_in_the_error(tmp_path: Path) -> None:
    builder = make_builder(tmp_path)
    make_module(builder.modules, source="int idle(void) { return nothing; }\n")
    with pytest.raises(BuildError, match="undeclared identifier 'nothing'"):
        compiled(builder)
    make_module(builder.modules, source="static int unused;\n")
    with pytest.raises(BuildError, match="unused"):
        compiled(builder)


def test_code_that_no_message_can_carry_is_refused(tmp_path: Path) -> None:
    builder = make_builder(tmp_path)
    make_module(builder.modules, source=f"char big[{MAX_OBJECT}] = {{1}};\n")
    with pytest.raises(BuildError, match=f"at most {MAX_OBJECT}"):
        compiled(builder)


def test_a_compiler_that_does_not_end_is_ended(tmp_path: Path) -> None:
    builder = make_builder(tmp_path, time_limit=0.5)
    fifo = builder.modules / "idle" / "never.h"
    make_module(builder.modules, source=f'#include "{fifo.name}"\n')

    os.mkfifo(fifo)
    with pytest.raises(BuildError, match="did not end within"):
        compiled(builder)


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="make setup"):
        compiled(make_builder(tmp_path))


SIGNER = Ed25519PrivateKey.generate()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ArtifactStore]:
    with opened(tmp_path / "nco.db") as (cib, database):
        yield ArtifactStore(cib, database, tmp_path, SIGNER)


def put(store: ArtifactStore, key: str, artifact: Artifact) -> str:
    return asyncio.run(store.put(key, artifact))


def test_artifacts_are_kept_and_signed(store: ArtifactStore) -> None:
    artifact = Artifact("idle", "1.0.0", "bpf", b"code")
    assert store.built("key") is None
    digest = put(store, "key", artifact)
    assert put(store, "other key", artifact) == digest, "two builds may give the same"
    assert store.built("key") == store.built("other key") == digest
    message = store.message(digest)
    assert message is not None
    assert verified(message, SIGNER.public_key()) == artifact
    with pytest.raises(ArtifactError):
        verified(message, Ed25519PrivateKey.generate().public_key())
    assert store.message("0" * 64) is None


def test_builds_may_give_the_same_at_the_same_time(store: ArtifactStore) -> None:
    artifact = Artifact("idle", "1.0.0", "bpf", b"code")

    async def put_all() -> None:
        await asyncio.gather(*(store.put(f"key {number}", artifact) for number in range(16)))

    asyncio.run(put_all())
    assert {store.built(f"key {number}") for number in range(16)} == {artifact.digest}


@pytest.mark.parametrize("content", [None, b"", b"other code"])
def test_a_damaged_artifact_is_built_again_and_never_handed_out(
    tmp_path: Path, store: ArtifactStore, content: bytes | None
) -> None:
    digest = put(store, "key", Artifact("idle", "1.0.0", "bpf", b"code"))
    (file,) = tmp_path.glob("*.o")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert store.built("key") is None
    assert store.message(digest) is None


def test_artifacts_are_there_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path / "nco.db") as (cib, database):
        digest = put(
            ArtifactStore(cib, database, tmp_path, SIGNER),
            "key",
            Artifact("idle", "1.0.0", "bpf", b"code"),
        )
    with opened(tmp_path / "nco.db") as (cib, database):
        store = ArtifactStore(cib, database, tmp_path, SIGNER)
        assert store.built("key") == digest
        assert store.message(digest) is not None


def test_another_compiler_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder, programs = make_builder(tmp_path), tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    before = key(builder)
    clang = programs / "clang"
    clang.write_text("#!/bin/sh\necho clang of another make\n")
    clang.chmod(0o755)
    assert key(builder) != before
    clang.unlink()
    assert key(builder) == before
