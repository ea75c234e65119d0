"""Artifacts: a module compiled for one target, named by digest, signed by the NCO."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire.messages import ArtifactData, Target


class ArtifactError(ValueError):
    """An artifact is not what it says it is; nothing of it may be used."""


@dataclass(frozen=True)
class Artifact:
    """Object code of a module, with what names it."""

    name: str
    version: str
    target: Target
    data: bytes
    kernel: str | None = None
    """The kernel release that it is for; None where it runs on all."""

    @property
    def digest(self) -> str:
        """SHA-256 of the object code, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def _signed(self) -> bytes:
        claim = ["l45-artifact-1", self.digest, self.name, self.version, self.target]
        claim += [self.kernel] if self.kernel is not None else []
        packed: bytes = msgpack.packb(claim)
        return packed

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """Return the Ed25519 signature (RFC 8032) over all but the code, whose digest is in."""
        return key.sign(self._signed())

    def message(self, signature: bytes) -> ArtifactData:
        """Return the message that carries this artifact."""
        return ArtifactData(
            digest=self.digest,
            name=self.name,
            version=self.version,
            target=self.target,
            kernel=self.kernel,
            signature=signature,
            data=self.data,
        )


def verified(message: ArtifactData, signer: Ed25519PublicKey) -> Artifact:
    """Return the artifact in `message` once its digest and signature are found right.

    Raises ArtifactError otherwise.
    """
    artifact = Artifact(message.name, message.version, message.target, message.data, message.kernel)
    if artifact.digest != message.digest:
        raise ArtifactError(f"artifact {message.name}: content does not have the digest it claims")
    try:
        signer.verify(message.signature, artifact._signed())
    except InvalidSignature as error:
        raise ArtifactError(f"artifact {message.name}: not signed by this NCO") from error
    return artifact
