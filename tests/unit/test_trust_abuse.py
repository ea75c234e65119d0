"""Who belongs to the network, where somebody means ill or things happen at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from controller.authorities import Authorities
from controller.certificates import new_authority
from controller.database import Database
from controller.holders import Held, Holders, store
from controller.identities import Identities, Validity
from controller.tokens import ANSWER_AGAIN, EnrolmentRefused, add_enrol_token, redeem
from tests.unit.test_trust_credentials import NOW
from wire.credential_files import new_key, signing_request
from wire.identity import PeerCertificate
from wire.messages import Holds

SECRET = bytes(range(32))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with contextlib.closing(Database(database_url)) as database:
        yield database


def test_a_used_token_answers_its_key_again_for_a_while_only(database: Database) -> None:
    def use(key: bytes, now: float) -> None:
        database.submit(lambda session: redeem(session, SECRET, "alpha", key, now)).result()

    database.submit(lambda s: add_enrol_token(s, SECRET, "alpha", 0.0, 86400.0)).result()
    use(b"mine", 1.0)
    use(b"mine", ANSWER_AGAIN)
    with pytest.raises(EnrolmentRefused, match="used before"):
        use(b"another", 2.0)
    with pytest.raises(EnrolmentRefused, match="used before"):
        use(b"mine", ANSWER_AGAIN + 2)


def test_a_certificate_that_is_being_renewed_is_revoked_with_its_host(database: Database) -> None:
    authority = new_authority(NOW)

    def identities() -> Identities:
        validity = Validity(lifetime=86400, grace=86400)
        return Identities(database, Authorities(authority), validity, NOW.timestamp)

    async def play() -> None:
        here, request = identities(), signing_request(new_key(), "alpha")
        _, renewed = await asyncio.gather(
            here.revoke("alpha", unseen=True), here.renew("alpha", request)
        )
        after_restart = identities()
        await after_restart.load()
        if renewed.certificate:
            certificate = PeerCertificate.read(renewed.certificate)
            assert certificate is not None
            assert here.refusal(certificate) is not None
            assert after_restart.refusal(certificate) is not None
        assert here.expires("alpha") is None
        assert after_restart.expires("alpha") is None

    asyncio.run(play())


def test_what_hosts_hold_outlives_the_service(database: Database) -> None:
    authorities = Authorities(new_authority(NOW))
    old, new = "0" * 64, authorities.signing.id

    async def play() -> None:
        here = Holders(database)
        for number in range(20):
            await here.told(f"h{number}", Holds(authorities=[old, new], issuer=old))
        held = here.sent("h1", authorities)
        assert held == Held(frozenset([new]), None)
        await database.submit(lambda session: store(session, {"h1": held}))
        after_restart = Holders(database)
        await after_restart.load()
        assert after_restart.of("h0") == Held(frozenset([old, new]), old)
        assert after_restart.of("h1") == held
        assert not after_restart.is_known("h20")

    asyncio.run(play())
