"""The NCO's certification authority and artifact signer, and the state folder they begin with.

Keys are created with mode 0600 and folders with 0700: there is no moment in which another user
could read them. `ca.key` can be encrypted besides, with a passphrase that is in a file elsewhere
(a systemd credential, say).
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ObjectIdentifier
from pydantic import TypeAdapter, ValidationError

from controller import authorities
from controller.certificates import CLIENT, SERVER, Authority, pem
from controller.config import ConfigError, NcoConfig, StateFolder
from wire import credential_files
from wire.identity import CLOCK_SKEW, NCO_NAME, Credentials, IdentityError, PeerCertificate
from wire.messages import HostName

OFFLINE_LIFETIME = timedelta(days=7)
"""Of certificates that `nco host add` writes: within it, the host connects and renews by itself."""

PUBLIC_FOLDER = 0o755

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
    authority = authorities.make(config, datetime.now(UTC))
    for folder in (state.path, state.artifacts, state.run):
        _make_private_folder(folder)
    _write_new(state.ca_key, authority.sealed)
    signer = Ed25519PrivateKey.generate()
    _write_new(state.signer_key, _private_pem(signer))
    lifetime = timedelta(seconds=config.certificate_lifetime)
    own = Identity(NCO_NAME, pem(authority.certificate), _public_pem(signer), SERVER)
    _write_credentials(state.credentials, own, _make_credentials(authority, own, lifetime))
    # Last: a folder with settings is a whole one.
    text = CONFIG_TEXT.format(control=config.control, listen=config.listen)
    if config.ca_passphrase_file is not None:
        text += f'ca_passphrase_file = "{config.ca_passphrase_file}"\n'
    _write_new(state.config, text.encode(), mode=0o644)


def issue_host(
    state: StateFolder, name: str, folder: Path, lifetime: timedelta = OFFLINE_LIFETIME
) -> Credentials:
    """Write the credentials of host `name` into `folder`, which is made where missing.

    The certificate is for clients only: a host that is named as the NCO cannot pass for it.
    Raises ConfigError on a bad name, on an unusable state folder, and where `folder` holds
    credentials already.
    """
    credentials = Credentials(folder)
    name = checked_name(name)
    if credentials.key.exists():
        raise ConfigError(f"{credentials.key} exists: remove it to issue new credentials there")
    found = authorities.load(state, state.load_config())
    identity = replace(load_identity(state, name), ca=found.bundle)
    made = _make_credentials(found.signing, identity, lifetime)
    # First: a host of which the service does not know is not waited for when the CA is replaced.
    _note_added(state, name, made.certificate)
    _write_credentials(credentials, identity, made)
    return credentials


def _note_added(state: StateFolder, name: str, certificate: bytes) -> None:
    """Keep a certificate for the service, whoever runs it: there are no secrets in it."""
    folder = state.hosts_added
    folder.mkdir(exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) != PUBLIC_FOLDER:
        folder.chmod(PUBLIC_FOLDER)
    credential_files.write(folder / f"{name}.pem", certificate, 0o644)


def hosts_added(state: StateFolder) -> list[PeerCertificate]:
    """Return the last certificate of each host that `issue_host` has issued: it may be unknown.

    Raises OSError: what cannot be read may be that of a host that would be left behind.
    """
    try:
        names = sorted(os.listdir(state.hosts_added))
    except FileNotFoundError:
        return []  # there are none yet
    found = []
    for name in names:
        if name.endswith(".pem") and not name.startswith("."):
            with contextlib.suppress(FileNotFoundError, ValueError):  # it is gone, or nobody's
                found.append(PeerCertificate.read((state.hosts_added / name).read_bytes()))
    return [certificate for certificate in found if certificate is not None]


def checked_name(name: str) -> str:
    """Return a name that a host can have; raises ConfigError on another."""
    try:
        return TypeAdapter(HostName).validate_python(name)
    except ValidationError as error:
        raise ConfigError(
            f"{name!r} is not a host name: one DNS label, lower-case letters, digits and '-'"
        ) from error


def load_identity(state: StateFolder, name: str) -> Identity:
    """Return what a host gets besides its key and certificate; raises ConfigError."""
    try:
        return Identity(
            name, state.credentials.ca.read_bytes(), state.credentials.signer.read_bytes()
        )
    except OSError as error:
        raise ConfigError(f"{error}; `nco init` writes the state folder {state.path}") from error


def renew_own(
    state: StateFolder, authority: Authority, lifetime: timedelta, now: datetime
) -> datetime:
    """Give the service a new certificate if its own is past two thirds; return when to look again.

    One that begins in the future was made while the clock was wrong, or the clock is wrong now: the
    next one is good for both times.

    Raises ConfigError where somebody has to mend the files, OSError where the disk is full, say.
    """
    own = state.credentials
    try:
        credential_files.finish(own)
        certificate = x509.load_pem_x509_certificate(own.certificate.read_bytes())
        issued = certificate.not_valid_before_utc + CLOCK_SKEW
        due = min(certificate.not_valid_after_utc - lifetime / 3, issued + lifetime * 2 / 3)
        early = now < certificate.not_valid_before_utc
        if early or due <= now or not authority.has_issued(certificate):
            identity = replace(load_identity(state, NCO_NAME), usage=SERVER)
            length = max(lifetime, certificate.not_valid_after_utc - now) if early else lifetime
            _write_credentials(own, identity, _make_credentials(authority, identity, length, now))
            due = now + lifetime * 2 / 3
    except (FileNotFoundError, PermissionError, ValueError, IdentityError) as error:
        raise ConfigError(f"cannot renew the certificate in {own.folder}: {error}") from error
    return min(due, now + lifetime * 2 / 3)


def load_signer(state: StateFolder) -> Ed25519PrivateKey:
    """Return the key that artifacts are signed with; raises ConfigError."""
    try:
        key = load_pem_private_key(state.signer_key.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{state.signer_key}: {error}; `nco init` writes it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{state.signer_key}: not an Ed25519 key")
    return key


@dataclass(frozen=True)
class Identity:
    """Who gets credentials, and what in them is not its own: CA certificates and signer, PEM."""

    name: str
    ca: bytes
    signer: bytes
    usage: ObjectIdentifier = CLIENT


@dataclass(frozen=True)
class _Made:
    """What is new in credentials, PEM."""

    key: bytes = field(repr=False)
    certificate: bytes


def _make_credentials(
    authority: Authority, identity: Identity, lifetime: timedelta, now: datetime | None = None
) -> _Made:
    key = credential_files.new_key()
    certificate = authority.issue(
        key.public_key(),
        identity.name,
        identity.usage,
        lifetime=lifetime,
        now=now or datetime.now(UTC),
    )
    return _Made(credential_files.key_pem(key), pem(certificate))


def _write_credentials(credentials: Credentials, identity: Identity, made: _Made) -> None:
    credential_files.replace(
        credentials,
        key=made.key,
        certificate=made.certificate,
        ca=identity.ca,
        signer=identity.signer,
    )


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
