"""Whose certificates are known: those that were seen are stored, all together, and once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from controller.database import Database
from controller.identities import Identities, Validity, revoke_all
from tests.unit.nco_kit import opened
from wire.identity import PeerCertificate

DAY = 86400.0


async def loaded(database: Database) -> Identities:
    identities = Identities(database, Mock(), Validity(DAY, DAY), time.time)
    await identities.load()
    return identities


def test_certificates_that_come_together_are_stored_together_and_once(tmp_path: Path) -> None:
    now = time.time()
    seen = [PeerCertificate(f"h{number}", number, now, now + DAY) for number in range(1200)]

    async def look(database: Database) -> None:
        identities, unaware = await loaded(database), await loaded(database)
        before = database.commits[0]
        await asyncio.gather(*(identities.seen(one) for one in [*seen, *seen]))
        assert database.commits[0] - before < 10
        await unaware.seen(seen[0])  # as after a commit of which nobody heard
        again = await loaded(database)
        assert all(again.expires(one.name) == now + DAY for one in seen)

    with opened(tmp_path / "nco.db") as (_, database):
        asyncio.run(look(database))


@pytest.mark.parametrize("how", ["revoked", "enrolled anew"])
def test_a_certificate_that_is_first_seen_while_its_host_is_revoked_is_revoked_too(
    tmp_path: Path, how: str
) -> None:
    now = time.time()
    before = PeerCertificate("h1", 1, now - 60, now + DAY)
    after = PeerCertificate("h1", 2, now + 60, now + DAY)

    async def look(database: Database) -> None:
        identities = await loaded(database)
        revoking = (
            identities.revoke("h1", unseen=True)
            if how == "revoked"
            else database.submit(lambda session: revoke_all(session, "h1", now))
        )
        await asyncio.gather(
            asyncio.ensure_future(revoking), identities.seen(before), identities.seen(after)
        )
        again = await loaded(database)  # as by a service that was restarted
        assert "was revoked" in (again.refusal(before) or "")
        assert again.refusal(after) is None

    with opened(tmp_path / "nco.db") as (_, database):
        asyncio.run(look(database))


def test_what_is_refused_is_not_taken_note_of(tmp_path: Path) -> None:
    """It may have been let in, and its host revoked before it came to this."""
    now = time.time()
    certificate = PeerCertificate("h1", 1, now - 60, now + DAY)

    async def look(database: Database) -> None:
        identities = await loaded(database)
        await identities.revoke("h1", unseen=True)
        await identities.seen(certificate)
        assert "was revoked" in (identities.refusal(certificate) or "")
        assert list(identities.hosts()) == []

    with opened(tmp_path / "nco.db") as (_, database):
        asyncio.run(look(database))
