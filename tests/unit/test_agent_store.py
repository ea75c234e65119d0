"""The agent's state on disk: whole or old, private, and nothing in it is believed unchecked."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_agent.converge import Apply, Saved
from host_agent.store import Store, StoreError
from tests.unit.agent_kit import customization, desired, signed
from wire.frames import MAX_FRAME

KEY = Ed25519PrivateKey.generate()
SIGNER = KEY.public_key()
A, B = signed(KEY, "dns_app_tag", b"a"), signed(KEY, "other", b"b")
FIRST = Apply(desired(3, customization(A, 1)), (A,), confirmed=True)
SECOND = Apply(desired(4, customization(B, 2)), (B,), confirmed=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    yield store
    store.close()


def test_nothing_saved_is_nothing(store: Store) -> None:
    assert store.load(SIGNER) is None


def test_what_was_saved_comes_back(store: Store) -> None:
    store.save(FIRST, "boot")
    assert store.load(SIGNER) == Saved("boot", FIRST.desired, (A,))


def test_the_last_save_counts_and_only_its_artifacts_stay(store: Store, folder: Path) -> None:
    store.save(FIRST, "boot")
    store.save(SECOND, "boot")
    assert store.load(SIGNER) == Saved("boot", SECOND.desired, (B,))
    assert [path.name for path in (folder / "artifacts").iterdir()] == [B.digest]


def test_the_folder_is_private_even_where_it_was_not(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    Store(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_agents_do_not_share_a_folder(store: Store, folder: Path) -> None:
    with pytest.raises(StoreError, match="another dca runs with the state folder"):
        Store(folder)
    store.close()
    Store(folder).close()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot use the state folder"):
        Store(tmp_path / "file" / "state")


def test_a_crash_while_saving_leaves_the_old_state(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(FIRST, "boot")

    def crash(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", crash)
        with pytest.raises(OSError, match="power cut"):
            store.save(SECOND, "boot")
    assert store.load(SIGNER) == Saved("boot", FIRST.desired, (A,))
    store.save(SECOND, "boot")
    assert store.load(SIGNER) == Saved("boot", SECOND.desired, (B,))


@pytest.mark.parametrize(
    "change",
    [
        {"data": b"altered"},
        {"name": "other"},
        {"signature": b"\0" * 64},
        {"digest": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_artifact_is_dropped(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture, change: dict[str, object]
) -> None:
    store.save(FIRST, "boot")
    path = folder / "artifacts" / A.digest
    path.write_bytes(msgpack.packb(A.model_copy(update=change).model_dump()))
    assert store.load(SIGNER) == Saved("boot", FIRST.desired, ())
    assert "saved artifact dropped" in caplog.text
    store.save(FIRST, "boot")
    assert store.load(SIGNER) == Saved("boot", FIRST.desired, (A,))


def test_artifacts_of_another_signer_are_dropped(store: Store) -> None:
    store.save(FIRST, "boot")
    stranger = Ed25519PrivateKey.generate().public_key()
    assert store.load(stranger) == Saved("boot", FIRST.desired, ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"boot_id": "boot"}),
        msgpack.packb({"boot_id": 1, "desired": FIRST.desired.model_dump(mode="json")}),
        msgpack.packb({"boot_id": "boot", "desired": {"type": "desired", "generation": -1}}),
        msgpack.packb({"boot_id": "boot", "desired": {"type": "welcome", "version": 1}}),
        b"\0" * (MAX_FRAME + 1),
    ],
)
def test_a_broken_state_is_ignored_with_a_reason(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (folder / "last").write_bytes(content)
    assert store.load(SIGNER) is None
    assert "saved state ignored" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_no_altered_byte_of_the_state_ends_the_agent(
    store: Store, folder: Path, position: int, value: int
) -> None:
    store.save(FIRST, "boot")
    content = bytearray((folder / "last").read_bytes())
    content[position % len(content)] = value
    (folder / "last").write_bytes(content)
    saved = store.load(SIGNER)
    assert saved is None or set(saved.artifacts) <= {A}
