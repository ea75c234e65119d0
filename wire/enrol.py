"""Enrolment: how a host that has nothing but a token gets credentials.

The token names the NCO's address, the host, a secret that is used once, and the fingerprint of the
certification authorities. The host connects twice, by TLS 1.3. The first time it believes nothing:
it reads what the NCO begins with (`Authorities`), and finds it to be what the fingerprint says, or
leaves. The second time it checks the NCO's certificate by them as ever, and only then sends the
secret, with a request for a certificate whose private key never leaves the host.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Literal

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from wire.messages import HostName, Text

MAX_FRAME = 128 * 1024
SECRET_SIZE = 32
PREFIX = "l45-enrol-"

Pem = Annotated[bytes, Field(max_length=65536)]
Secret = Annotated[bytes, Field(min_length=SECRET_SIZE, max_length=SECRET_SIZE, repr=False)]


class TokenError(ValueError):
    """What was given is no token of ours; the text says what to do."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Authorities(_Message):
    """The NCO begins with it: the certification authorities to trust, PEM."""

    type: Literal["authorities"] = "authorities"
    ca: Pem


class Enrol(_Message):
    """The host asks for a certificate."""

    type: Literal["enrol"] = "enrol"
    host: HostName
    secret: Secret
    request: Annotated[bytes, Field(max_length=8192)]
    """A PKCS #10 certificate signing request (RFC 2986), PEM."""


class Enrolled(_Message):
    """The answer: the certificate and what artifacts are verified with, or why not."""

    type: Literal["enrolled"] = "enrolled"
    certificate: Pem = b""
    signer: Pem = b""
    control: Annotated[str, Field(max_length=255)] = ""
    """`ADDRESS:PORT` where the host's agent finds the NCO."""
    error: Text | None = None


FROM_HOST: TypeAdapter[Enrol] = TypeAdapter(Enrol)
FROM_NCO: TypeAdapter[Authorities | Enrolled] = TypeAdapter(
    Annotated[Authorities | Enrolled, Field(discriminator="type")]
)


class Token(_Message):
    """What an operator hands to a host, once, by a way that keeps it secret."""

    address: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]
    host: HostName
    secret: Secret
    fingerprint: Annotated[bytes, Field(min_length=32, max_length=32)]
    """Of the certification authorities (`fingerprint`)."""

    def encode(self) -> str:
        """Return it as one word of text."""
        packed = msgpack.packb(
            [self.address, self.port, self.host, self.secret, self.fingerprint], use_bin_type=True
        )
        return PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Token:
        """Return the token in a text; raises TokenError, which does not repeat it."""
        advice = "`nco host token NAME` at the NCO prints one, a word that begins with " + PREFIX
        word = text.strip()
        if not word.startswith(PREFIX) or len(word) > 1024:
            raise TokenError(f"this is no enrolment token: {advice}")
        try:
            text = word.removeprefix(PREFIX)
            padded = text + "=" * (-len(text) % 4)
            packed = base64.b64decode(padded, altchars=b"-_", validate=True)
            values = msgpack.unpackb(packed)
            fields = ("address", "port", "host", "secret", "fingerprint")
            return cls.model_validate(dict(zip(fields, values, strict=True)))
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise TokenError(f"the token was not copied as a whole: {advice}") from error


def authorities(ca: bytes) -> bytes:
    """Return the certification authorities in PEM again as PEM, and nothing else that was in it.

    Parsers differ in what they pass over: one has to trust what was looked at. Raises ValueError
    where there are none.
    """
    certificates = x509.load_pem_x509_certificates(ca)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def fingerprint(ca: bytes) -> bytes:
    """Return the SHA-256 of certification authorities in PEM, whatever stands between them.

    Raises ValueError where there are none.
    """
    digest = hashlib.sha256()
    for certificate in x509.load_pem_x509_certificates(ca):
        der = certificate.public_bytes(Encoding.DER)
        digest.update(len(der).to_bytes(4, "big") + der)
    return digest.digest()
