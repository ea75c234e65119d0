"""Which authorities each host trusts, and whose certificate it has: what hosts themselves said.

An authority is replaced on the strength of this, so it errs on one side only. What was sent to a
host counts once the host says that it is on its disk; from the moment of sending on it may have
either, and what is then not sure is not believed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import cast

from sqlalchemy import Table, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from controller.authorities import Authorities
from controller.bulk import insert_rows, update_rows
from controller.database import Base, Database
from controller.errors import Refusal
from wire.messages import Holds

log = logging.getLogger(__name__)


class HolderRow(Base):
    """What a host has."""

    __tablename__ = "credential_holder"

    host: Mapped[str] = mapped_column(primary_key=True)
    trusts: Mapped[str]
    """Authorities, separated by spaces."""
    issuer: Mapped[str]
    """The authority that issued its certificate; empty where that is not sure."""


TABLE = cast(Table, HolderRow.__table__)

TOGETHER = 500
"""Hosts of one transaction."""


@dataclass(frozen=True)
class Held:
    """What a host has for sure; authorities by `wire.identity.authority_id`."""

    trusts: frozenset[str] = frozenset()
    issuer: str | None = None

    def after_sending(self, authorities: Authorities) -> Held:
        """Return what is sure once these, and a certificate, are on their way to the host."""
        same = self.issuer == authorities.signing.id
        return Held(self.trusts & authorities.ids, self.issuer if same else None)

    def is_up_to_date(self, authorities: Authorities) -> bool:
        """Whether nothing new has to be sent."""
        return self.trusts == authorities.ids and self.issuer == authorities.signing.id


class Holders:
    """What all hosts have. All but what is awaited is called from one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[str, Held] = {}
        self._unstored: dict[str, Held] = {}
        self._storing = False

    async def load(self) -> None:
        """Read what is known from the CIB."""
        rows = await self._database.read(lambda session: list(session.scalars(select(HolderRow))))
        self._held = {
            row.host: Held(frozenset(row.trusts.split()), row.issuer or None) for row in rows
        }

    def of(self, host: str) -> Held:
        """Return what a host has for sure."""
        return self._held.get(host, Held())

    def is_known(self, host: str) -> bool:
        """Whether a host has ever said what it has."""
        return host in self._held

    async def told(self, host: str, holds: Holds) -> None:
        """Take note of what a host says."""
        held = Held(frozenset(holds.authorities), holds.issuer)
        if self._held.get(host) != held:
            await self.keep(host, held)

    async def keep(self, host: str, held: Held) -> None:
        """Take note of what a host has, and store it; not that it could not be stored."""
        self._held[host] = self._unstored[host] = held
        if not self._storing:
            await self._store()

    def forget(self, host: str) -> None:
        """Take note that what is known of a host was removed from the CIB."""
        self._held.pop(host, None)
        self._unstored.pop(host, None)

    async def _store(self) -> None:
        """Store what is new, all together: ten thousand hosts may come at once."""
        self._storing = True
        try:
            while self._unstored:
                some = dict(islice(self._unstored.items(), TOGETHER))
                for host in some:
                    del self._unstored[host]
                await self._database.submit(partial(store, held=some))
        except Refusal as error:  # hosts say it again in their next sessions
            log.warning("what some hosts trust is not stored: %s", error)
        finally:
            self._storing = False

    def sent(self, host: str, authorities: Authorities) -> Held | None:
        """Take note that a host is about to be sent these; return what to store, if anything."""
        before = self._held.get(host)
        if before is None:
            return None
        after = before.after_sending(authorities)
        if after == before:
            return None
        self._held[host] = after
        self._unstored.pop(host, None)
        return after


def remove(session: Session, host: str) -> None:
    """Remove what a host has, in the transaction that is under way."""
    session.execute(delete(HolderRow).where(HolderRow.host == host))


def store(session: Session, held: Mapping[str, Held]) -> None:
    """Store what hosts have, in the transaction that is under way; at most `TOGETHER` hosts."""
    query = select(HolderRow.host).where(HolderRow.host.in_(held))
    there = set(session.scalars(query))
    rows = [
        {"host": host, "trusts": " ".join(sorted(one.trusts)), "issuer": one.issuer or ""}
        for host, one in held.items()
    ]
    if known := [row for row in rows if row["host"] in there]:
        update_rows(session, TABLE, known)
    if new := [row for row in rows if row["host"] not in there]:
        insert_rows(session, TABLE, new)
