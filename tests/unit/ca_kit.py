"""A CA that is replaced, and hosts of it, in memory and on a real disk; nothing runs by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller import authorities, ca, ca_rotation
from controller.audit import AuditLog
from controller.authorities import Authorities
from controller.ca_rotation import CaRotation
from controller.config import NcoConfig, StateFolder
from controller.database import Database
from controller.enrol import Enrolment
from controller.identities import Identities, Validity
from tests.unit.test_trust_credentials import CONFIG, NOW
from wire import credential_files
from wire.credential_files import new_key, signing_request
from wire.enrol import Enrol, Token
from wire.identity import authority_id
from wire.messages import Holds, Renewed, RenewNow

WRITES = 4
"""At most, of one step."""


class KilledError(BaseException):
    """The process dies."""


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> Iterator[None]:
    """Die at the write or removal number `at` (from 1), before or after it is done."""
    done = 0

    def deadly(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:  # noqa: ANN401
            nonlocal done
            done += 1
            if done == at and not after:
                raise KilledError
            real(*arguments)
            if done == at:
                raise KilledError

        return call

    with monkeypatch.context() as patch:
        for name in ("write", "remove"):
            patch.setattr(credential_files, name, deadly(getattr(credential_files, name)))
        yield


@dataclass
class Host:
    """What is on a host's disk, and its connection."""

    name: str
    trusts: frozenset[str]
    issuer: str
    online: bool = False
    revoked: bool = False
    asked: list[RenewNow] = field(default_factory=list)

    def send(self, message: RenewNow) -> None:
        self.asked.append(message)

    def holds(self) -> Holds:
        return Holds(authorities=sorted(self.trusts), issuer=self.issuer)


class Nco:
    """The parts of a service that replace the CA; another one is made when it was killed."""

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        config = state.load_config()
        self.database = Database(state.database_url(config))
        found = authorities.load(state, config)
        if found.rotation:
            authorities.follow(state, found)
        validity = Validity(lifetime=86400, grace=86400)
        self.identities = Identities(self.database, found, validity, NOW.timestamp)
        audit = AuditLog(self.database, NOW.timestamp, 1000)
        self.rotation = CaRotation(state, config, self.identities, audit, self._put_in_force)
        self.enrolment = Enrolment(
            *(self.database, self.identities, b""),
            control="127.0.0.1:4545",
            clock=NOW.timestamp,
            cut=lambda _host, _reason: None,
        )
        asyncio.run(self.identities.load())

    async def _put_in_force(self, changed: Authorities) -> None:
        authorities.save(self.state, changed)
        self.identities.authorities = changed

    @property
    def now(self) -> Authorities:
        return self.identities.authorities

    def close(self) -> None:
        self.database.close()


def made(folder: Path, config: NcoConfig = CONFIG) -> StateFolder:
    state = StateFolder(folder / "state")
    ca.initialise(state, config)
    return state


def enrolled(nco: Nco, name: str) -> Host:
    async def play() -> Host:
        shown = nco.enrolment.authority
        text = await nco.enrolment.token(name, 60, ("127.0.0.1", 1))
        request = signing_request(new_key(), name)
        asked = Enrol(host=name, secret=Token.decode(text).secret, request=request)
        await nco.enrolment.enrol(asked, "here", shown)
        return Host(name, frozenset([shown.id]), shown.id)

    return asyncio.run(play())


def renewed(nco: Nco, host: Host) -> Renewed:
    request = signing_request(new_key(), host.name)
    return asyncio.run(nco.identities.renew(host.name, request))


def install(nco: Nco, host: Host, answer: Renewed) -> None:
    """Do what an agent does with an answer."""
    sent = authorities.x509.load_pem_x509_certificates(answer.ca)
    host.trusts = frozenset(authority_id(one) for one in sent)
    (certificate,) = authorities.x509.load_pem_x509_certificates(answer.certificate)
    (host.issuer,) = (one.id for one in nco.now.trusted if one.has_issued(certificate))


async def turned_back(nco: Nco) -> None:
    """Do what an operator does who has looked."""
    assert nco.now.rotation is not None
    await nco.rotation.abort(nco.now.rotation.stage)


def come(nco: Nco, host: Host) -> None:
    host.online = True
    nco.rotation.arrived(host.name, host)
    asyncio.run(nco.rotation.told(host.name, host, host.holds()))


def play(nco: Nco, hosts: list[Host], *lost: str) -> None:
    """Let hosts come, and those that are asked renew; for each, what is lost of that."""
    for host in hosts:
        if not host.online:
            come(nco, host)
    asyncio.run(nco.rotation.look())
    for host, what in zip(hosts, lost, strict=True):
        if host.asked:
            host.asked.clear()
            answer = renewed(nco, host)
            if what != "answer":
                install(nco, host, answer)
            if what == "nothing":
                asyncio.run(nco.rotation.told(host.name, host, host.holds()))
            else:
                host.online = False
                nco.rotation.left(host.name, host)


def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nco]:
    """For a fixture."""
    monkeypatch.setattr(ca_rotation, "ASK_AGAIN", 0.0)
    with contextlib.closing(Nco(made(tmp_path))) as nco:
        yield nco


def begun(state: StateFolder) -> Authorities:
    config = state.load_config()
    return authorities.load(state, config).begun(authorities.make(config, datetime.now(UTC)))
