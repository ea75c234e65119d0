"""Certificates, requests, and files that change together or not at all."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from controller import authorities, ca
from controller.certificates import (
    CA_LIFETIME,
    CLIENT,
    RequestError,
    new_authority,
    pem,
    requested_key,
)
from controller.config import ConfigError, NcoConfig, StateFolder
from host_agent.renewal import EARLIEST, LATEST, Life, install, life
from wire import credential_files
from wire.credential_files import JOURNAL, key_pem, new_key, signing_request
from wire.identity import Credentials, IdentityError, PeerCertificate
from wire.messages import Renewed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AUTHORITY = new_authority(NOW)
CONFIG = NcoConfig(control="127.0.0.1:4545", listen="127.0.0.1:0")


def certificate_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    return pem(AUTHORITY.issue(key.public_key(), "h1", CLIENT, lifetime=DAY, now=NOW))


def written(folder: Path) -> Credentials:
    key = new_key()
    credentials = Credentials(folder)
    credential_files.replace(
        credentials,
        key=key_pem(key),
        certificate=certificate_for(key),
        ca=pem(AUTHORITY.certificate),
        signer=b"signer",
    )
    return credentials


def test_a_certificate_says_when_it_was_made(tmp_path: Path) -> None:
    read = PeerCertificate.read(certificate_for(new_key()))
    assert read is not None
    assert (read.name, read.issued, read.expires) == (
        "h1",
        NOW.timestamp(),
        (NOW + DAY).timestamp(),
    )


def test_a_request_is_good_for_the_key_that_signed_it_alone() -> None:
    key = new_key()
    assert requested_key(signing_request(key, "h1")) == key.public_key()
    damaged = bytearray(signing_request(key, "h1"))
    damaged[len(damaged) // 2] ^= 1
    for request in (b"", b"x" * 9000, bytes(damaged), certificate_for(key), key_pem(key)):
        with pytest.raises(RequestError):
            requested_key(request)


def test_another_kind_of_key_is_refused() -> None:
    with pytest.raises(RequestError, match="P-256"):
        requested_key(signing_request(ec.generate_private_key(ec.SECP384R1()), "h1"))


@given(st.binary(max_size=200))
def test_any_bytes_are_no_request(request_bytes: bytes) -> None:
    with pytest.raises(RequestError):
        requested_key(request_bytes)


def test_files_are_private_and_usable(tmp_path: Path) -> None:
    credentials = written(tmp_path / "h1")
    assert stat.S_IMODE(credentials.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(credentials.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in credentials.folder.iterdir()) == [
        "ca.pem",
        "cert.pem",
        "key.pem",
        "signer.pem",
    ]
    credentials.client_context()


@pytest.mark.parametrize("crash", range(1, 5))
def test_a_crash_between_two_files_leaves_a_whole_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    """The process dies when it renames for the time number `crash`; the first is the journal's."""
    credentials = written(tmp_path / "h1")
    before = credentials.certificate.read_bytes()
    renames = 0
    real = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == crash:
            raise OSError("died here")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    key = new_key()
    fresh = certificate_for(key)
    with pytest.raises(OSError, match="died here"):
        credential_files.replace(
            credentials, key=key_pem(key), certificate=fresh, ca=pem(AUTHORITY.certificate)
        )
    monkeypatch.undo()
    credential_files.finish(credentials)
    assert credentials.certificate.read_bytes() == (before if crash == 1 else fresh)
    assert not (credentials.folder / JOURNAL).exists()
    credentials.client_context()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    credentials = written(tmp_path / "h1")
    (credentials.folder / JOURNAL).write_bytes(b"\xc1")
    with pytest.raises(IdentityError, match="damaged"):
        credential_files.finish(credentials)


LIVES = st.builds(
    lambda issued, length: Life(issued, issued + length),
    st.floats(0, 2e9),
    st.floats(1, 1e8),
)


@given(LIVES, st.floats(0, 4e9), st.floats(EARLIEST, LATEST))
def test_a_certificate_is_renewed_well_before_it_expires(
    lived: Life, now: float, part: float
) -> None:
    due = lived.due_in(now, part)
    assert 0 <= due <= lived.length * LATEST
    if lived.issued <= now <= lived.issued + lived.length * EARLIEST:
        assert now + due <= lived.expires - lived.length * 0.29
    if now >= lived.expires:
        assert due == 0


def test_what_the_nco_sends_is_checked_before_it_replaces_anything(tmp_path: Path) -> None:
    credentials = written(tmp_path / "h1")
    before = {path: path.read_bytes() for path in credentials.folder.iterdir()}
    key = new_key()
    mine, foreign = certificate_for(key), certificate_for(new_key())
    for renewed in (
        Renewed(error="no"),
        Renewed(),
        Renewed(certificate=foreign),
        Renewed(certificate=b"nonsense"),
        Renewed(certificate=mine, ca=b"nonsense"),
    ):
        with pytest.raises(IdentityError):
            install(credentials, renewed, key_pem(key))
    assert before == {path: path.read_bytes() for path in credentials.folder.iterdir()}
    assert install(credentials, Renewed(certificate=mine), key_pem(key)) == life(mine)
    assert credentials.certificate.read_bytes() == mine


def test_the_ca_key_can_be_encrypted(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    state = StateFolder(tmp_path / "state")
    ca.initialise(state, CONFIG.model_copy(update={"ca_passphrase_file": passphrase}))
    assert b"ENCRYPTED" in state.ca_key.read_bytes()
    ca.issue_host(state, "h1", tmp_path / "h1").client_context()
    config = state.load_config()
    with pytest.raises(ConfigError, match="ca_passphrase_file"):
        authorities.load(state, config.model_copy(update={"ca_passphrase_file": None}))
    passphrase.write_text("wrong")
    with pytest.raises(ConfigError):
        authorities.load(state, config)
    passphrase.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        authorities.load(state, config)


def test_an_authority_that_was_made_while_the_clock_was_ahead_is_valid_once_it_is_right() -> None:
    made = new_authority(NOW + timedelta(days=300))
    assert made.certificate.not_valid_before_utc < NOW
    assert made.certificate.not_valid_after_utc == NOW + timedelta(days=300) + CA_LIFETIME


def test_the_service_renews_its_own_certificate_when_two_thirds_are_over(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    ca.initialise(state, CONFIG)
    authority = authorities.load(state, CONFIG).signing
    lifetime = timedelta(seconds=CONFIG.certificate_lifetime)
    before = state.credentials.certificate.read_bytes()
    now = datetime.now(UTC)
    due = ca.renew_own(state, authority, lifetime, now)
    assert state.credentials.certificate.read_bytes() == before
    assert timedelta(0) < due - now <= lifetime * 2 / 3
    later = now + lifetime * 3 / 4
    assert ca.renew_own(state, authority, lifetime, later) - later == lifetime * 2 / 3
    fresh = x509.load_pem_x509_certificate(state.credentials.certificate.read_bytes())
    assert fresh.not_valid_after_utc - later > lifetime - timedelta(seconds=2)
    context = state.credentials.server_context()
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_of_a_wrong_time_is_replaced_by_one_for_both(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    ca.initialise(state, CONFIG)
    authority = authorities.load(state, CONFIG).signing
    lifetime = timedelta(seconds=CONFIG.certificate_lifetime)

    def renewed(at: datetime) -> x509.Certificate:
        due = ca.renew_own(state, authority, lifetime, at)
        assert timedelta(0) < due - at <= lifetime * 2 / 3
        return x509.load_pem_x509_certificate(state.credentials.certificate.read_bytes())

    now = datetime.now(UTC)
    jumped = now + 3 * lifetime
    ahead = renewed(jumped)
    assert now < ahead.not_valid_before_utc
    both = renewed(now)
    assert both.not_valid_before_utc < now
    assert both.not_valid_after_utc >= ahead.not_valid_after_utc - timedelta(seconds=1)
    assert renewed(now) == both, "it is good now"
    assert renewed(now + lifetime) != both, "and no longer in use than others"


def test_no_file_of_the_state_is_for_others(tmp_path: Path) -> None:
    os.umask(0)  # a careless shell
    try:
        state = StateFolder(tmp_path / "state")
        ca.initialise(state, CONFIG)
        for secret in (state.ca_key, state.signer_key, state.credentials.key):
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        for folder in (state.path, state.credentials.folder, state.run, state.artifacts):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(0o022)
