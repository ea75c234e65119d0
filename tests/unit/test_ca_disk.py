"""A disk that fails while the CA is replaced: nobody enrols who could not come back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from controller import authorities, ca
from controller.config import StateFolder
from controller.database import Database
from controller.errors import Unavailable
from controller.trust import Trust
from tests.unit.test_trust_credentials import CONFIG
from tests.waiting import PATIENCE
from wire import credential_files
from wire.credential_files import new_key, signing_request
from wire.enrol import Enrol, Token


def failing(real: Callable[..., None], good: int) -> Callable[..., None]:
    """Return what does it a few times, and then finds the disk full."""
    left = iter(range(good))

    def call(*arguments: Any) -> None:  # noqa: ANN401
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*arguments)

    return call


def test_nobody_enrols_while_the_disk_may_have_another_ca_than_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFolder(tmp_path / "state")
    ca.initialise(state, CONFIG)

    async def play(database: Database) -> None:
        trust = Trust(state, CONFIG, database, artifacts=Mock(), source=Mock(), cut=Mock())
        before = trust.identities.authorities
        spread = before.begun(authorities.make(CONFIG, datetime.now(UTC)))
        assert spread.rotation is not None
        await trust._put_in_force(spread)
        with monkeypatch.context() as patch:
            patch.setattr(credential_files, "write", failing(credential_files.write, 1))
            with pytest.raises(OSError, match="No space left"):
                await trust._put_in_force(spread.switched(spread.rotation))
            assert authorities.load(state, CONFIG).signing.id != before.signing.id
            with pytest.raises(Unavailable):
                await enrol(trust)
        trust._due = datetime.now(UTC)
        keeping = asyncio.create_task(trust._keep_fresh())
        async with asyncio.timeout(PATIENCE):
            while trust.identities.is_unsure:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        keeping.cancel()
        await enrol(trust)
        assert authorities.load(state, CONFIG).signing.id == before.signing.id

    with contextlib.closing(Database(state.database_url(CONFIG))) as database:
        asyncio.run(play(database))


async def enrol(trust: Trust) -> None:
    token = Token.decode(await trust.enrolment.token("h1", 60, ("127.0.0.1", 1)))
    request = signing_request(new_key(), "h1")
    asked = Enrol(host="h1", secret=token.secret, request=request)
    await trust.enrolment.enrol(asked, "here", trust.enrolment.authority)
