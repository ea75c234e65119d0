"""The built artifacts: files named by digest, known to the CIB, signed when they go out."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller.cib import ArtifactRow, BuildRow, Cib
from wire.artifact import Artifact
from wire.messages import ArtifactData

MESSAGES_KEPT = 16
"""Messages that are in memory: agents mostly ask for the same ones."""


class ArtifactStore:
    """Keeps compiled modules and finds them by build key and by digest."""

    def __init__(self, cib: Cib, folder: Path, signer: Ed25519PrivateKey) -> None:
        self._cib = cib
        self._folder = folder
        self._signer = signer
        self._messages: dict[str, ArtifactData] = {}
        """What went out last, the oldest first: the next agent gets the same object."""

    def built(self, key: str) -> str | None:
        """Return the digest of what the build `key` gave, if its bytes are still here and right."""
        row = self._cib.build(key)
        return row.digest if row and self.get(row.digest) else None

    def get(self, digest: str) -> Artifact | None:
        """Return an artifact, or None where it is missing or its file was changed."""
        row = self._cib.artifact(digest)
        if row is None:
            return None
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            return None
        artifact = Artifact(row.name, row.version, row.target, data, row.kernel)
        return artifact if artifact.digest == digest else None

    def message(self, digest: str) -> ArtifactData | None:
        """Return the signed message that carries an artifact."""
        kept = self._messages.get(digest)
        artifact = self.get(digest) if kept is None else None
        if artifact is None:
            return kept
        if len(self._messages) >= MESSAGES_KEPT:
            del self._messages[next(iter(self._messages))]
        message = artifact.message(artifact.sign(self._signer))
        self._messages[digest] = message
        return message

    def put(self, key: str, artifact: Artifact) -> str:
        """Store what the build `key` gave; return its digest."""
        path = self._path(artifact.digest)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(artifact.data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        with self._cib.writing() as session:
            session.merge(
                ArtifactRow(
                    digest=artifact.digest,
                    name=artifact.name,
                    version=artifact.version,
                    target=artifact.target,
                    kernel=artifact.kernel,
                )
            )
            session.flush()
            session.merge(BuildRow(key=key, digest=artifact.digest))
        return artifact.digest

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.o"
