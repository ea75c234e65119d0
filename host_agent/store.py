"""What the agent keeps on disk: the last set that was applied, and the artifacts it needs.

`STATE/last` holds the set, its generation and the boot in which it was applied; `STATE/artifacts/`
one file for each artifact, named by digest, with the NCO's signature: all msgpack, all written
beside and renamed, so that a crash at any point leaves the old state or the new one. What cannot
be read or verified is left out with a logged reason: the NCO has it all.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Any

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from host_agent.converge import Apply, Saved
from wire.artifact import ArtifactError, verified
from wire.frames import MAX_FRAME
from wire.messages import FROM_NCO, ArtifactData, Desired, MessageError, dump, parse

log = logging.getLogger(__name__)


class StoreError(RuntimeError):
    """The state folder cannot be used; the text says why and what to do."""


class Store:
    """The state folder of one agent; locked while this object lives."""

    def __init__(self, folder: Path) -> None:
        """Make the folder (mode 0700) where it is not there; raise StoreError if it cannot be."""
        self._last = folder / "last"
        self._artifacts = folder / "artifacts"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._artifacts.mkdir(exist_ok=True)
            self._lock = (folder / "lock").open("w")
        except OSError as error:
            raise StoreError(f"cannot use the state folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise StoreError(
                f"another dca runs with the state folder {folder}; give each host its own (--state)"
            ) from error

    def close(self) -> None:
        """Let another agent have the folder."""
        self._lock.close()

    def load(self, signer: Ed25519PublicKey) -> Saved | None:
        """Return what was saved last, with those of its artifacts that verify, or None."""
        try:
            last = _read(self._last)
            desired = parse(FROM_NCO, last["desired"])
            boot_id = last["boot_id"]
            if not isinstance(desired, Desired) or not isinstance(boot_id, str):
                raise ValueError("not a saved state")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("saved state ignored file=%s reason=%r", self._last, str(error))
            return None
        found = (self._artifact(digest, signer) for digest in _digests(desired))
        return Saved(boot_id, desired, tuple(artifact for artifact in found if artifact))

    def save(self, action: Apply, boot_id: str) -> None:
        """Keep the set that was just applied and its artifacts; drop the artifacts of others.

        Raises OSError where the disk does not take it; then what was saved before is still whole.
        """
        for artifact in action.artifacts:
            path = self._artifacts / artifact.digest
            if not path.exists():
                _write(path, dump(artifact))
        _write(self._last, {"boot_id": boot_id, "desired": dump(action.desired)})
        needed = _digests(action.desired)
        for path in self._artifacts.iterdir():
            if path.name not in needed:
                path.unlink()

    def _artifact(self, digest: str, signer: Ed25519PublicKey) -> ArtifactData | None:
        path = self._artifacts / digest
        try:
            message = parse(FROM_NCO, _read(path))
            if not isinstance(message, ArtifactData) or message.digest != digest:
                raise MessageError("not the artifact that its name says")
            verified(message, signer)
        except (OSError, ValueError, ArtifactError) as error:
            log.warning("saved artifact dropped file=%s reason=%r", path, str(error))
            path.unlink(missing_ok=True)
            return None
        return message


def _digests(desired: Desired) -> set[str]:
    return {customization.digest for customization in desired.customizations}


def _read(path: Path) -> Any:  # noqa: ANN401 - checked by the caller
    """Return the msgpack value in a file, of bounded size; raise OSError or ValueError."""
    with path.open("rb") as file:
        content = file.read(MAX_FRAME + 1)
    if len(content) > MAX_FRAME:
        raise ValueError("too long")
    return msgpack.unpackb(content)


def _write(path: Path, value: dict[str, Any]) -> None:
    """Replace a file as a whole, on the disk and not only in its cache, when this returns."""
    beside = path.with_name(f"{path.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgpack.packb(value))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
