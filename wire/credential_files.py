"""Changing credentials on disk: key, certificate and authorities together, or none of them.

A key without its certificate is no identity, and two files cannot be renamed in one step. So the
new ones are first written as a whole into a journal beside them; then each file is replaced, then
the journal goes. Whoever finds a journal finishes what it says.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from wire.identity import Credentials, IdentityError

JOURNAL = "renewed"


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key of the one kind that certificates of ours are for."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted: for a file of mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Return a certificate signing request (RFC 2986), PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def is_for(certificate: bytes, key: bytes) -> bool:
    """Whether a certificate is for a private key, both PEM; False where they are neither."""
    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
        return public == load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError):
        return False


def replace(
    credentials: Credentials, *, key: bytes, certificate: bytes, ca: bytes, signer: bytes = b""
) -> None:
    """Write new credentials, all PEM, over those of before; an empty one stays as it is.

    Raises OSError where the disk does not take them; then those of before are still whole.
    """
    credentials.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {"key.pem": key, "cert.pem": certificate, "ca.pem": ca, "signer.pem": signer}
    journal = credentials.folder / JOURNAL
    write(journal, msgpack.packb({name: data for name, data in files.items() if data}))
    finish(credentials)


def finish(credentials: Credentials) -> None:
    """Finish what a crash interrupted; raises IdentityError where the journal is damaged."""
    journal = credentials.folder / JOURNAL
    try:
        files = msgpack.unpackb(journal.read_bytes())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise IdentityError(f"{journal} is damaged: remove it, the others are whole") from error
    for path in (credentials.signer, credentials.ca, credentials.key, credentials.certificate):
        if data := files.get(path.name):
            write(path, data, mode=0o600 if path == credentials.key else 0o644)
    remove(journal)


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file as a whole, on the disk and not only in its cache, when this returns."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask is: others may have to read it
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there, from the disk and not only from its cache."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
