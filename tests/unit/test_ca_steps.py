"""Each step of replacing the CA: what is on the disk, whoever dies or cannot read it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller import authorities, ca
from controller.authorities import Authorities
from controller.certificates import new_authority, pem
from controller.config import ConfigError, StateFolder
from controller.errors import Unavailable
from tests.unit.ca_kit import WRITES, KilledError, Nco, begun, dying, fresh, made
from tests.unit.test_trust_credentials import CONFIG, NOW

nco = pytest.fixture(fresh)


def steps(state: StateFolder) -> list[tuple[str, Authorities]]:
    """Return all that is ever written, each with what is on the disk before it."""
    one = authorities.load(state, state.load_config())
    spread = begun(state)
    assert spread.rotation is not None
    retire = spread.switched(spread.rotation)
    assert retire.rotation is not None
    back = retire.turned(retire.rotation)
    assert back.rotation is not None
    forth = back.turned(back.rotation)
    return [
        ("begin", one),
        ("switch", spread),
        ("turn", retire),
        ("turn again", back),
        ("end", forth),
        ("over", forth.alone()),
    ]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
@pytest.mark.parametrize("number", range(5))
def test_a_service_that_dies_within_a_step_has_taken_it_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, at: int, after: bool
) -> None:
    state = made(tmp_path)
    config = state.load_config()
    (_, before), (_, wanted) = steps(state)[number : number + 2]
    authorities.save(state, before)
    with dying(monkeypatch, at, after=after), contextlib.suppress(KilledError):
        authorities.save(state, wanted)
    found = authorities.load(state, config)
    shape = [(a.ids, a.signing.id, a.rotation and a.rotation.phase) for a in (before, wanted)]
    assert (found.ids, found.signing.id, found.rotation and found.rotation.phase) in shape
    if found.rotation:  # as the service does when it begins
        authorities.follow(state, found)
    assert state.credentials.ca.read_bytes() == found.bundle
    assert state.ca_key.read_bytes() == found.signing.sealed
    assert state.ca_rotation.exists() == (found.rotation is not None)
    ca.issue_host(state, "h1", tmp_path / "h1").client_context()


def test_a_switch_gives_the_service_a_certificate_of_the_new_one(tmp_path: Path) -> None:
    state = made(tmp_path)
    spread, retire = steps(state)[1][1], steps(state)[2][1]
    lifetime = timedelta(days=1)
    for now in (spread, retire):
        authorities.save(state, now)
        ca.renew_own(state, now.signing, lifetime, datetime.now(UTC))
        own = authorities.x509.load_pem_x509_certificate(state.credentials.certificate.read_bytes())
        assert now.signing.has_issued(own)
        state.credentials.server_context()


def test_both_keys_are_encrypted_where_one_is(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    config = CONFIG.model_copy(update={"ca_passphrase_file": passphrase})
    state = made(tmp_path, config)
    spread = begun(state)
    authorities.save(state, spread)
    text = state.ca_rotation.read_text()
    assert text.count("ENCRYPTED PRIVATE KEY") == 4, "begin and end of two"
    assert text.count("BEGIN PRIVATE KEY") == 0
    with pytest.raises(ConfigError, match="ca_passphrase_file"):
        authorities.load(state, config.model_copy(update={"ca_passphrase_file": None}))
    assert spread.rotation is not None
    over = spread.switched(spread.rotation).alone()
    authorities.save(state, over)
    assert b"ENCRYPTED" in state.ca_key.read_bytes()
    assert authorities.load(state, state.load_config()).signing.id == over.signing.id


def test_without_the_passphrase_no_new_ca_is_made(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    state = made(tmp_path, CONFIG.model_copy(update={"ca_passphrase_file": passphrase}))
    with contextlib.closing(Nco(state)) as nco:
        passphrase.unlink()
        with pytest.raises(Unavailable, match="no new CA can be made"):
            asyncio.run(nco.rotation.begin())
        assert nco.now.rotation is None
    assert not state.ca_rotation.exists()


@pytest.mark.parametrize("sealed", ["with another one", "with none"])
def test_no_new_ca_is_made_that_a_restart_could_not_open_beside_the_present_one(
    tmp_path: Path, sealed: str
) -> None:
    """The passphrase was changed, or is new, since the service began."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    config = CONFIG.model_copy(update={"ca_passphrase_file": passphrase})
    state = made(tmp_path, config if sealed == "with another one" else CONFIG)
    with contextlib.closing(Nco(state)) as nco:
        nco.rotation._config = config
        passphrase.write_text("battery staple\n")
        with pytest.raises(Unavailable, match="put the former passphrase"):
            asyncio.run(nco.rotation.begin())
        assert nco.now.rotation is None
    assert not state.ca_rotation.exists()


def test_whoever_adds_hosts_the_service_can_read_which(tmp_path: Path) -> None:
    """Root may have added them, with a umask of its own, and the service be somebody else."""
    state = made(tmp_path)
    before = os.umask(0o077)
    try:
        ca.issue_host(state, "h1", tmp_path / "h1")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (state.hosts_added, *added(state))]
    assert modes == [0o755, 0o644]
    state.hosts_added.chmod(0o700)
    ca.issue_host(state, "h2", tmp_path / "h2")
    assert stat.S_IMODE(state.hosts_added.stat().st_mode) == 0o755
    assert [one.name for one in ca.hosts_added(state)] == ["h1", "h2"]


def added(state: StateFolder) -> list[Path]:
    return sorted(state.hosts_added.iterdir())


@pytest.mark.parametrize("what", ["the folder", "a file"])
def test_hosts_that_cannot_be_read_are_not_left_behind(
    nco: Nco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    ca.issue_host(nco.state, "h1", tmp_path / "h1")

    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        if what == "the folder":
            patch.setattr(os, "listdir", forbidden)
            patch.setattr(os, "scandir", forbidden)
        else:
            patch.setattr(Path, "read_bytes", forbidden)
        with pytest.raises(Unavailable, match=r"Permission denied.*hosts-added"):
            asyncio.run(nco.rotation.begin())
    assert nco.now.rotation is None
    asyncio.run(nco.rotation.begin())
    assert [one.host for one in nco.rotation.missing()] == ["h1"]


def test_no_host_has_credentials_of_which_the_service_would_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = made(tmp_path)
    with dying(monkeypatch, 1, after=False), pytest.raises(KilledError):
        ca.issue_host(state, "h1", tmp_path / "h1")
    assert not (tmp_path / "h1" / "key.pem").exists()
    assert added(state) == []
    with dying(monkeypatch, 1, after=True), pytest.raises(KilledError):
        ca.issue_host(state, "h1", tmp_path / "h1")
    assert [one.name for one in ca.hosts_added(state)] == ["h1"]
    assert not (tmp_path / "h1").exists()


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"phase": "spread"}'])
def test_a_damaged_file_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    state = made(tmp_path)
    state.ca_rotation.write_text(text)
    with pytest.raises(ConfigError, match=r"ca\.rotation cannot be read"):
        authorities.load(state, state.load_config())


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    state = made(tmp_path)
    authorities.save(state, begun(state))
    other = pem(new_authority(NOW).certificate).decode().replace("\n", "\\n")
    text = state.ca_rotation.read_text()
    first = text.index('"certificate": "') + len('"certificate": "')
    state.ca_rotation.write_text(text[:first] + other + text[text.index('"', first) :])
    with pytest.raises(ConfigError, match="is not that of its certificate"):
        authorities.load(state, state.load_config())
