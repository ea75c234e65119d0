"""X.509 as the NCO's certification authority makes it: pure, no files and no clock.

A certificate of ours names one end in its common name and may be used on that side of TLS only. It
is valid for a while before it was made (`CLOCK_SKEW`), for hosts whose clocks are behind; that of
an authority for much longer (`CA_SKEW`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from wire.identity import CLOCK_SKEW, authority_id

CA_LIFETIME = timedelta(days=3650)
CA_SKEW = timedelta(days=365)
"""For which an authority is valid before it was made.

Where the clock was ahead then, no host would believe it once the clock is right: unlike other
certificates it is not replaced by itself.
"""

MAX_REQUEST = 8192
"""Bytes of a certificate signing request."""

CLIENT: ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH


class RequestError(ValueError):
    """A certificate signing request that is not accepted; the text says why."""


@dataclass(frozen=True)
class Authority:
    """A certification authority: its certificate, and the key that signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    sealed: bytes = field(default=b"", repr=False, compare=False)
    """The key as it is kept on the disk, PEM; encrypted where the settings say so."""

    @cached_property
    def id(self) -> str:
        """What names it."""
        return authority_id(self.certificate)

    @property
    def name(self) -> str:
        """What people call it."""
        (name,) = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(name.value)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is signed with the key of this authority."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        usage: ObjectIdentifier,
        *,
        lifetime: timedelta,
        now: datetime,
    ) -> x509.Certificate:
        """Return a certificate for one end, which is what `usage` says: CLIENT or SERVER."""
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = _builder(_common_name(name), self.certificate.subject, public_key, now, lifetime)
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def new_authority(now: datetime) -> Authority:
    """Return a new authority with a key, and a name, of its own: two may be trusted at a time."""
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _common_name(f"L45 NCO CA {identifier.digest.hex()[:8]}")
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME, skew=CA_SKEW)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key in a PEM certificate signing request (RFC 2986), once it is found to be held.

    What else the request says is not believed: who asks is known from elsewhere. Raises
    RequestError.
    """
    if len(request) > MAX_REQUEST:
        raise RequestError(f"the request has {len(request)} bytes, at most {MAX_REQUEST} are read")
    try:
        parsed = x509.load_pem_x509_csr(request)
        held = parsed.is_signature_valid
        key = parsed.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RequestError(f"not a certificate signing request: {error}") from error
    if not held:
        raise RequestError("the request is not signed with the key that it names")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestError("the key is not an elliptic curve key on P-256")
    return key


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
    *,
    skew: timedelta = CLOCK_SKEW,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - skew)
        .not_valid_after(now.astimezone(UTC) + lifetime)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
