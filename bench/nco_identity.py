"""Names, addresses and certificates of the emulated agents: all of one key, made in one go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.config import StateFolder

SERVER = 0
"""Number of the agent whose host is the others' server."""
CLIENTS = "10.64.0.0/16"
"""Where the others are."""
SERVER_ADDRESS = "10.65.0.1"
FIRST_ADDRESS = IPv4Address("10.64.0.1")
EVERY = 500


def host_name(number: int) -> str:
    """Return the name of an agent's host."""
    return f"a{number:05d}"


def host_address(number: int) -> str:
    """Return the address that it says it has."""
    return SERVER_ADDRESS if number == SERVER else str(FIRST_ADDRESS + number)


def certificate_file(credentials: Path, number: int) -> Path:
    """Return where its certificate lies."""
    return credentials / f"{host_name(number)}.pem"


def key_file(credentials: Path) -> Path:
    """Return where the key of all of them lies."""
    return credentials / "key.pem"


def ca_file(credentials: Path) -> Path:
    """Return where the certificate of the NCO's certification authority lies."""
    return credentials / "ca.pem"


def issue(state: StateFolder, credentials: Path, count: int, told: Callable[[int], None]) -> None:
    """Write the certificates of `count` agents, by the state folder's own CA.

    An agent's own key is its host's alone; what it costs to have them all differ is of no interest
    here.
    """
    credentials.mkdir(mode=0o700)
    ca_key = load_pem_private_key(state.ca_key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - `nco init` makes those
    ca_pem = state.credentials.ca.read_bytes()
    ca_file(credentials).write_bytes(ca_pem)
    issuer = x509.load_pem_x509_certificate(ca_pem).subject
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file(credentials).touch(0o600)
    key_file(credentials).write_bytes(pem)
    now = datetime.now(UTC)
    base = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    for number in range(count):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_name(number))])
        certificate = (
            base.subject_name(name)
            .serial_number(x509.random_serial_number())
            .sign(ca_key, hashes.SHA256())
        )
        certificate_file(credentials, number).write_bytes(certificate.public_bytes(Encoding.PEM))
        if number % EVERY == EVERY - 1:
            told(number + 1)
