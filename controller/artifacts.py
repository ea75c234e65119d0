"""The built artifacts: files named by digest, known to the CIB, signed when they go out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from controller.cib import Cib
from controller.cib_tables import ArtifactRow, BuildRow
from controller.database import Database
from wire.artifact import Artifact
from wire.messages import ArtifactData

MESSAGES_KEPT = 16
"""Messages that are in memory: agents mostly ask for the same ones."""


class ArtifactStore:
    """Keeps compiled modules and finds them by build key and by digest."""

    def __init__(
        self, cib: Cib, database: Database, folder: Path, signer: Ed25519PrivateKey
    ) -> None:
        self._cib = cib
        self._database = database
        self._folder = folder
        self._signer = signer
        self._writing = asyncio.Lock()
        self._messages: dict[str, ArtifactData] = {}
        """What went out last, the oldest first: the next agent gets the same object."""

    def built(self, key: str) -> str | None:
        """Return the digest of what the build `key` gave, if its bytes are still here and right."""
        digest = self._cib.build(key)
        return digest if digest and self.get(digest) else None

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

    async def put(self, key: str, artifact: Artifact) -> str:
        """Store what the build `key` gave; return its digest once that is safe."""
        async with self._writing:  # two builds can give the same, and the same file
            await asyncio.to_thread(_write, self._path(artifact.digest), artifact.data)
        values = {
            "digest": artifact.digest,
            "name": artifact.name,
            "version": artifact.version,
            "target": artifact.target,
            "kernel": artifact.kernel,
        }

        def store(session: Session) -> None:
            session.merge(ArtifactRow(**values))
            session.flush()
            session.merge(BuildRow(key=key, digest=artifact.digest))

        await self._database.submit(store)
        self._cib.add_build(key, ArtifactRow(**values))
        return artifact.digest

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.o"


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there wholly or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
