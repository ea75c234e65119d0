"""Who is who on the control channel: credential folders and TLS 1.3 contexts for both ends.

A credential folder holds `ca.pem`, `cert.pem`, `key.pem` (mode 0600) and `signer.pem` (the NCO's
Ed25519 public key for artifacts). The identity of a peer is the common name of its certificate:
`nco` for the NCO (also its DNS subject alternative name), the host's name for an agent.
"""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509.oid import NameOID

NCO_NAME = "nco"
CONTROL_PORT = 4545

CLOCK_SKEW = timedelta(hours=1)
"""How far a host's clock may be behind the NCO's for a new certificate to be valid there: a
certificate is made that long after the beginning of its validity."""

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""


class IdentityError(ValueError):
    """A credential is missing or cannot be used; the text says which file and what to do."""


@dataclass(frozen=True)
class Credentials:
    """A folder with what one end needs to prove who it is."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The certificates of the NCO's certification authorities: two while one is replaced."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """This end's own certificate."""
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        """This end's private key, mode 0600."""
        return self.folder / "key.pem"

    @property
    def signer(self) -> Path:
        """The public key that artifacts are signed with."""
        return self.folder / "signer.pem"

    def server_context(self) -> ssl.SSLContext:
        """Return the NCO's context: TLS 1.3 only, a client certificate of our CA required.

        Whether it has expired is for the NCO to judge after the handshake (`PeerCertificate`), as
        it has words for it, and a policy.
        """
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= NO_CHECK_TIME
        context.num_tickets = 0  # nobody resumes; saves a third of the handshake
        return context

    def open_context(self) -> ssl.SSLContext:
        """Return the NCO's context for peers who have no certificate, or not yet: TLS 1.3 only."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return an agent's context; connect with `server_hostname=NCO_NAME`."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def signer_key(self) -> Ed25519PublicKey:
        """Return the key that verifies artifacts."""
        try:
            key = load_pem_public_key(self.signer.read_bytes())
        except (OSError, ValueError) as error:
            raise IdentityError(f"{self.signer}: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise IdentityError(f"{self.signer}: not an Ed25519 public key")
        return key

    def _context(self, side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.ca)
            self._check_private()
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise IdentityError(
                f"cannot use the credentials in {self.folder}: {error}; "
                "`nco init` and `dca enrol` write them"
            ) from error
        return context

    def _check_private(self) -> None:
        """Refuse a private key that others than its owner may use."""
        mode = self.key.stat().st_mode
        if mode & 0o077:
            raise IdentityError(
                f"{self.key}: others may use this private key (mode {stat.S_IMODE(mode):04o}); "
                f"`chmod 600 {self.key}`, and new credentials if anyone could have read it"
            )


@dataclass(frozen=True)
class PeerCertificate:
    """What a certificate that the handshake has verified says."""

    name: str
    serial: int
    issued: float
    """Unix time in seconds, as are all."""
    expires: float

    @classmethod
    def of(cls, certificate: dict[str, Any] | None) -> PeerCertificate | None:
        """Return what is in the answer of `SSLSocket.getpeercert()`, or None if there is none."""
        name = common_name(certificate)
        if certificate is None or name is None:
            return None
        issued = ssl.cert_time_to_seconds(certificate["notBefore"])
        return cls(
            name=name,
            serial=int(certificate["serialNumber"], 16),
            issued=issued + CLOCK_SKEW.total_seconds(),
            expires=ssl.cert_time_to_seconds(certificate["notAfter"]),
        )

    @classmethod
    def read(cls, pem: bytes) -> PeerCertificate | None:
        """Return what is in a PEM certificate, or None where it has no name."""
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not names:
            return None
        return cls(
            name=str(names[0].value),
            serial=certificate.serial_number,
            issued=(certificate.not_valid_before_utc + CLOCK_SKEW).timestamp(),
            expires=certificate.not_valid_after_utc.timestamp(),
        )


def authority_id(certificate: x509.Certificate) -> str:
    """Return what names a certification authority: the SHA-256 of its certificate, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """Return the common name of what `SSLSocket.getpeercert()` gave."""
    for relative_name in (certificate or {}).get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                return str(value)
    return None
