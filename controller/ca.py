"""The NCO's certification authority and artifact signer, and the state folder they begin with.

Keys are created with mode 0600 and folders with 0700: there is no moment in which another user
could read them.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from pydantic import TypeAdapter, ValidationError

from controller.config import ConfigError, NcoConfig, StateFolder
from wire.identity import NCO_NAME, Credentials
from wire.messages import HostName

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
CLOCK_SKEW = timedelta(hours=1)
"""How far a host's clock may be behind ours for a new certificate to be valid there."""

CONFIG_TEXT = """\
# Settings of the NCO; see controller/config.py for all of them. Unknown keys are refused.

# Where agents reach the control channel.
control = "{control}"
# Where the service listens for them.
listen = "{listen}"
"""


def initialise(state: StateFolder, config: NcoConfig) -> None:
    """Write a new state folder: settings, CA, signer, the service's own credentials.

    Raises ConfigError where there is one already; nothing is changed then.
    """
    for made_before in (state.config, state.ca_key, state.signer_key):
        if made_before.exists():
            raise ConfigError(
                f"{made_before} exists: {state.path} is a state folder already, and its keys are "
                "what the agents trust; remove the folder by hand to start over"
            )
    for folder in (state.path, state.artifacts, state.run):
        _make_private_folder(folder)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    _write_new(state.ca_key, _private_pem(ca_key))
    signer = Ed25519PrivateKey.generate()
    _write_new(state.signer_key, _private_pem(signer))
    _write_credentials(
        state.credentials,
        ca_certificate=_ca_certificate(ca_key),
        ca_key=ca_key,
        name=NCO_NAME,
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        signer_pem=_public_pem(signer),
    )
    # Last: a folder with settings is a whole one.
    text = CONFIG_TEXT.format(control=config.control, listen=config.listen)
    _write_new(state.config, text.encode(), mode=0o644)


def issue_host(state: StateFolder, name: str, folder: Path) -> Credentials:
    """Write the credentials of host `name` into `folder`, which is made where missing.

    The certificate is for clients only: a host that is named as the NCO cannot pass for it.
    Raises ConfigError on a bad name, on an unusable state folder, and where `folder` holds
    credentials already.
    """
    try:
        TypeAdapter(HostName).validate_python(name)
    except ValidationError as error:
        raise ConfigError(
            f"{name!r} is not a host name: one DNS label, lower-case letters, digits and '-'"
        ) from error
    credentials = Credentials(folder)
    if credentials.key.exists():
        raise ConfigError(f"{credentials.key} exists: remove it to issue new credentials there")
    try:
        ca_certificate = x509.load_pem_x509_certificate(state.credentials.ca.read_bytes())
        signer_pem = state.credentials.signer.read_bytes()
        ca_key = load_pem_private_key(state.ca_key.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{error}; `nco init` writes the state folder {state.path}") from error
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{state.ca_key}: not an elliptic curve key")
    _write_credentials(
        credentials,
        ca_certificate=ca_certificate,
        ca_key=ca_key,
        name=name,
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        signer_pem=signer_pem,
    )
    return credentials


def load_signer(state: StateFolder) -> Ed25519PrivateKey:
    """Return the key that artifacts are signed with; raises ConfigError."""
    try:
        key = load_pem_private_key(state.signer_key.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{state.signer_key}: {error}; `nco init` writes it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{state.signer_key}: not an Ed25519 key")
    return key


def _write_credentials(
    credentials: Credentials,
    *,
    ca_certificate: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    usage: ObjectIdentifier,
    signer_pem: bytes,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _leaf_certificate(ca_certificate, ca_key, key.public_key(), name, usage)
    _make_private_folder(credentials.folder)
    _write_new(credentials.key, _private_pem(key))
    for path, content in (
        (credentials.ca, ca_certificate.public_bytes(Encoding.PEM)),
        (credentials.certificate, certificate.public_bytes(Encoding.PEM)),
        (credentials.signer, signer_pem),
    ):
        path.write_bytes(content)


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _common_name("L45 NCO CA")
    return (
        _builder(name, name, key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf_certificate(
    ca_certificate: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    name: str,
    usage: ObjectIdentifier,
) -> x509.Certificate:
    ca_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(_common_name(name), ca_certificate.subject, key, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(ca_identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
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


def _private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
