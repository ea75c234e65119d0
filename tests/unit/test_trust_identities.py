"""Whose certificates are known: those that were seen are stored, all together, and once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from unittest.mock import Mock

from controller.database import Database
from controller.identities import Identities, Validity
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
