"""The NCO's certification authorities: one, or two while one is replaced; and their files.

`STATE/ca.key` and `STATE/credentials/ca.pem` have the one. While it is replaced `STATE/ca.rotation`
has both, with their keys, and how far that is. It alone counts then: each step is one replacement
of this file, and the other two follow (`save`), after a crash too.

    one -> SPREAD -> RETIRE -> one

In both phases both are trusted, and `signing` issues. SPREAD: hosts learn to trust the `other`,
the new one; once all do, the two change places. RETIRE: hosts get certificates of the new one; once
nobody has one of the `other`, now the old one, it goes. Going back is the same the other way:
RETIRE becomes SPREAD, and SPREAD becomes RETIRE, which is over at once where the `other` never
issued.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.certificates import Authority, new_authority, pem
from controller.config import ConfigError, NcoConfig, StateFolder
from wire import credential_files


class Phase(StrEnum):
    """How far a replacement is; see the module's text."""

    SPREAD = "spread"
    RETIRE = "retire"


@dataclass(frozen=True)
class Stage:
    """How far a replacement is, and whether it goes back from there."""

    phase: Phase
    goes_back: bool


@dataclass(frozen=True)
class Rotation:
    """A replacement that is under way."""

    phase: Phase
    other: Authority
    """Trusted beside the one that issues: it comes, or it goes."""
    has_issued: bool
    """Whether the other one has ever issued certificates."""
    goes_back: bool = False

    @property
    def stage(self) -> Stage:
        """Return how far it is."""
        return Stage(self.phase, self.goes_back)


@dataclass(frozen=True)
class Authorities:
    """Which authorities there are; each change is a new object."""

    signing: Authority
    rotation: Rotation | None = None

    @property
    def trusted(self) -> tuple[Authority, ...]:
        """All, the one that issues first."""
        return (self.signing, self.rotation.other) if self.rotation else (self.signing,)

    @cached_property
    def bundle(self) -> bytes:
        """What hosts trust, PEM."""
        return b"".join(pem(authority.certificate) for authority in self.trusted)

    @cached_property
    def ids(self) -> frozenset[str]:
        """The names of those that hosts trust."""
        return frozenset(authority.id for authority in self.trusted)

    def begun(self, new: Authority) -> Authorities:
        """Return what is so when a replacement begins."""
        return replace(self, rotation=Rotation(Phase.SPREAD, new, has_issued=False))

    def switched(self, rotation: Rotation) -> Authorities:
        """Return what is so once everybody trusts the other one: it issues from now on."""
        after = replace(rotation, phase=Phase.RETIRE, other=self.signing, has_issued=True)
        return Authorities(rotation.other, after)

    def turned(self, rotation: Rotation) -> Authorities:
        """Return what is so when a replacement turns back."""
        if rotation.phase == Phase.RETIRE:
            phase = Phase.SPREAD
        elif rotation.has_issued:
            phase = Phase.RETIRE
        else:
            return self.alone()
        return replace(
            self, rotation=replace(rotation, phase=phase, goes_back=not rotation.goes_back)
        )

    def alone(self) -> Authorities:
        """Return what is so without the other one."""
        return Authorities(self.signing)


class _Kept(BaseModel):
    """An authority in the file."""

    model_config = ConfigDict(extra="forbid")

    certificate: str
    key: str = Field(repr=False)


class _File(BaseModel):
    """What `ca.rotation` has."""

    model_config = ConfigDict(extra="forbid")

    phase: Phase
    signing: _Kept
    other: _Kept
    has_issued: bool
    goes_back: bool


def load(state: StateFolder, config: NcoConfig) -> Authorities:
    """Return what there is; raises ConfigError."""
    passphrase = read_passphrase(config)
    try:
        text = state.ca_rotation.read_text(encoding="ascii")
    except FileNotFoundError:
        return Authorities(_load_one(state, passphrase))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{state.ca_rotation}: {error}") from error
    try:
        file = _File.model_validate_json(text)
        signing, other = (_opened(kept, passphrase) for kept in (file.signing, file.other))
    except (ValidationError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{state.ca_rotation} cannot be read ({_reason(error)}): it has the keys of both CAs "
            "while one is replaced; `ca_passphrase_file` names their passphrase, if they have one"
        ) from error
    rotation = Rotation(file.phase, other, has_issued=file.has_issued, goes_back=file.goes_back)
    return Authorities(signing, rotation)


def save(state: StateFolder, authorities: Authorities) -> None:
    """Make it so on the disk; raises OSError.

    Where this is interrupted, `load` returns what was before or this, and doing it again helps.
    """
    rotation = authorities.rotation
    if rotation is not None:
        file = _File(
            phase=rotation.phase,
            signing=_kept(authorities.signing),
            other=_kept(rotation.other),
            has_issued=rotation.has_issued,
            goes_back=rotation.goes_back,
        )
        credential_files.write(state.ca_rotation, file.model_dump_json(indent=1).encode())
    follow(state, authorities)
    if rotation is None:
        credential_files.remove(state.ca_rotation)


def follow(state: StateFolder, authorities: Authorities) -> None:
    """Have the other files say the same, after a step that was interrupted; raises OSError."""
    for path, content, mode in (
        (state.ca_key, authorities.signing.sealed, 0o600),
        (state.credentials.ca, authorities.bundle, 0o644),
    ):
        if not path.exists() or path.read_bytes() != content:
            credential_files.write(path, content, mode)


def make(config: NcoConfig, now: datetime, beside: Authority | None = None) -> Authority:
    """Return a new authority, its key sealed as the settings say.

    Raises ConfigError, also where they do not open the key of the one `beside` it: whoever loads
    both has one passphrase.
    """
    passphrase = read_passphrase(config)
    if beside is not None and not _opens(passphrase, beside.sealed):
        raise ConfigError(
            f"`ca_passphrase_file` ({config.ca_passphrase_file}) is not what opened ca.key when "
            "the service began: put the former passphrase, or setting, back; or, where ca.key is "
            "encrypted with this one by now, restart the service"
        )
    authority = new_authority(now)
    return replace(authority, sealed=_seal(authority.key, _encryption(passphrase)))


def read_passphrase(config: NcoConfig) -> bytes | None:
    """Return the passphrase of the authorities' keys, if there is one; raises ConfigError."""
    path = config.ca_passphrase_file
    if path is None:
        return None
    try:
        passphrase = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it has ca.key's passphrase") from error
    if not passphrase:
        raise ConfigError(f"{path} is empty: it should have the passphrase of ca.key")
    return passphrase


def _opens(passphrase: bytes | None, sealed: bytes) -> bool:
    try:
        load_pem_private_key(sealed, passphrase)
    except (ValueError, TypeError):
        return False
    return True


def _encryption(passphrase: bytes | None) -> KeySerializationEncryption:
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


def _load_one(state: StateFolder, passphrase: bytes | None) -> Authority:
    try:
        certificate = x509.load_pem_x509_certificates(state.credentials.ca.read_bytes())[0]
        sealed = state.ca_key.read_bytes()
        key = load_pem_private_key(sealed, passphrase)
    except TypeError as error:
        raise ConfigError(
            f"{state.ca_key}: {error}; `ca_passphrase_file` in {state.config} names the file with "
            "the passphrase"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{error}; `nco init` writes the state folder {state.path}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{state.ca_key}: not an elliptic curve key")
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"{state.ca_key} is not the key of {state.credentials.ca}")
    return Authority(certificate, key, sealed)


def _opened(kept: _Kept, passphrase: bytes | None) -> Authority:
    certificate = x509.load_pem_x509_certificate(kept.certificate.encode())
    sealed = kept.key.encode()
    key = load_pem_private_key(sealed, passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ValueError("a key is not that of its certificate")
    return Authority(certificate, key, sealed)


def _kept(authority: Authority) -> _Kept:
    return _Kept(certificate=pem(authority.certificate).decode(), key=authority.sealed.decode())


def _seal(key: ec.EllipticCurvePrivateKey, how: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def _reason(error: Exception) -> str:
    """Return what is wrong, without what is in the file."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
