"""Replacing the CA: what is believed of hosts, who is asked when, and who is warned."""

from __future__ import annotations

import asyncio
import errno
from datetime import timedelta
from pathlib import Path

import pytest

from controller import ca, ca_rotation
from controller.authorities import Phase
from controller.certificates import pem
from controller.errors import Unavailable
from controller.holders import Held
from tests.unit.ca_kit import Nco, begun, come, enrolled, fresh, made, play, renewed
from tests.unit.test_trust_credentials import NOW
from wire import credential_files
from wire.messages import Holds

nco = pytest.fixture(fresh)


def test_what_is_on_its_way_to_a_host_is_not_believed(tmp_path: Path) -> None:
    state = made(tmp_path)
    spread = begun(state)
    assert spread.rotation is not None
    retire = spread.switched(spread.rotation)
    old, new = spread.signing.id, spread.rotation.other.id
    both = frozenset([old, new])
    assert Held(frozenset([old]), old).after_sending(spread) == Held(frozenset([old]), old)
    assert Held(both, old).after_sending(retire) == Held(both, None)
    assert Held(both, new).after_sending(retire.alone()) == Held(frozenset([new]), new)
    assert Held(both, new).is_up_to_date(retire)
    assert not Held(both, None).is_up_to_date(retire)


def test_somebody_is_warned_half_a_year_before_it_expires(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires = nco.now.signing.certificate.not_valid_after_utc
    assert nco.rotation.warnings(expires - timedelta(days=181)) == {}
    (text,) = nco.rotation.warnings(expires - timedelta(days=100)).values()
    assert "in 100 days" in text
    assert "nco ca rotate" in text
    told: list[dict[str, str]] = []
    nco.rotation.observers.append(told.append)
    monkeypatch.setattr(ca_rotation, "WARN_BEFORE", timedelta(days=4000))
    for _ in range(2):
        asyncio.run(nco.rotation.look())
    assert [list(texts) for texts in told] == [[nco.now.signing.name]]
    asyncio.run(nco.rotation.begin())
    monkeypatch.setattr(ca_rotation, "WARN_BEFORE", timedelta(days=180))
    asyncio.run(nco.rotation.look())
    assert told[1:] == [{}]


def test_no_clock_that_jumps_lets_a_host_be_forgotten(nco: Nco) -> None:
    enrolled(nco, "h1")
    nco.identities._clock = (NOW + timedelta(days=300)).timestamp
    asyncio.run(nco.rotation.begin())
    asyncio.run(nco.rotation.look())
    (missing,) = nco.rotation.missing()
    assert "has expired" in missing.reason
    asyncio.run(nco.identities.revoke("h1"))
    for _ in range(2):
        asyncio.run(nco.rotation.look())
    assert nco.now.rotation is None


def test_a_disk_that_is_full_changes_nothing_and_it_goes_on_by_itself(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [enrolled(nco, "h1")]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(credential_files, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            asyncio.run(nco.rotation.begin())
    assert nco.now.rotation is None
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing")
    before = nco.now
    with monkeypatch.context() as patch:
        patch.setattr(credential_files, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            asyncio.run(nco.rotation.look())
    assert nco.now is before
    assert not nco.identities.is_switching
    for _ in range(2):
        play(nco, hosts, "nothing")
    assert nco.now.rotation is None
    assert hosts[0].issuer == nco.now.signing.id


def test_a_host_is_asked_again_only_after_a_while(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_rotation, "ASK_AGAIN", 30.0)
    host = enrolled(nco, "h1")
    asyncio.run(nco.rotation.begin())
    come(nco, host)
    for _ in range(3):
        asyncio.run(nco.rotation.look())
    assert len(host.asked) == 1
    assert renewed(nco, host).certificate
    assert "only just now" in (renewed(nco, host).error or "")


def test_a_host_that_never_has_what_it_should_is_asked_ever_more_rarely(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says wrong things, or its disk is read-only; each time is a certificate and a commit."""
    monkeypatch.setattr(ca_rotation, "ASK_AGAIN", 30.0)
    host = enrolled(nco, "h1")
    host.trusts = frozenset(["0" * 64])

    def asked(hours: int) -> int:
        before = len(host.asked)
        for second in range(hours * 360):
            nco.rotation._ask(start + second * 10.0)
            come(nco, host)  # also not by coming again
        return len(host.asked) - before

    start = 1000.0
    assert asked(24) < 16
    start += 86400.0
    assert asked(24) in range(3, 6), "it may have been mended"
    asyncio.run(nco.rotation.begin())
    start += 86400.0
    assert asked(1) > 4, "that is something else"


def test_hosts_that_were_not_asked_yet_come_first(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_rotation, "ASK_AT_ONCE", 2)
    hosts = [enrolled(nco, f"h{number}") for number in range(5)]
    asyncio.run(nco.rotation.begin())
    for host in hosts:
        come(nco, host)
    for now in range(3):
        nco.rotation._ask(float(now))
    assert all(host.asked for host in hosts)


def test_what_a_session_says_that_is_over_does_not_count(nco: Nco) -> None:
    before = enrolled(nco, "h1")
    come(nco, before)
    old = Holds(authorities=["0" * 64], issuer="0" * 64)
    anew = enrolled(nco, "h1")
    nco.rotation.left("h1", before)
    asyncio.run(nco.rotation.told("h1", before, old))
    come(nco, anew)
    asyncio.run(nco.rotation.told("h1", before, old))
    assert nco.identities.holders.of("h1") == Held(anew.trusts, anew.issuer)
    assert "h1" not in nco.rotation._lacking


def test_hosts_that_were_added_are_stored_all_together(nco: Nco, tmp_path: Path) -> None:
    for number in range(30):
        ca.issue_host(nco.state, f"h{number}", tmp_path / f"h{number}")
    before = nco.database.commits[0]
    asyncio.run(nco.rotation.begin())
    assert nco.database.commits[0] - before < 10
    assert len(nco.rotation.missing()) == 30


def test_what_a_host_had_that_was_revoked_says_nothing_of_the_next_of_its_name(
    nco: Nco, tmp_path: Path
) -> None:
    host = enrolled(nco, "h1")
    come(nco, host)
    asyncio.run(nco.identities.revoke("h1"))
    again = Nco(nco.state)
    for one in (nco, again):
        assert not one.identities.holders.is_known("h1")
        assert one.identities.holders.of("h1") == Held()
    again.close()


def test_a_new_ca_does_not_pass_for_the_old_one(tmp_path: Path) -> None:
    state = made(tmp_path)
    spread = begun(state)
    assert spread.rotation is not None
    assert spread.rotation.phase == Phase.SPREAD
    assert spread.signing.name != spread.rotation.other.name
    assert spread.bundle.startswith(pem(spread.signing.certificate))
