"""The audit log: who did what to the network, when, from where, and what came of it.

What an operator asks for is written before it is done; the outcome is added afterwards. An entry
that says `begun` and nothing more is of a service that died meanwhile: it may have been done, or
not. What the NCO does by itself is written in the transaction that does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from controller.database import Base, Database

BEGUN = "begun"
DONE = "done"

NCO = "nco"
"""The actor of what nobody asked for."""

MAX_DETAIL = 1000
"""Characters of an entry's detail."""


class AuditRow(Base):
    """One entry."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(index=True)
    """Unix time in seconds."""
    actor: Mapped[str]
    source: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]
    outcome: Mapped[str]


@dataclass(frozen=True)
class Entry:
    """What is written down; no field ever has a secret."""

    action: str
    """A verb with its object (`host revoked`), or method and path."""
    subject: str = ""
    """The host, intent or token that it is about."""
    actor: str = NCO
    """A token's name, a local user, an agent, or the NCO itself."""
    source: str = ""
    """Address or process from which it came."""
    detail: str = ""
    outcome: str = DONE


def note(session: Session, at: float, entry: Entry) -> AuditRow:
    """Write an entry in the transaction that is under way."""
    row = AuditRow(
        at=at,
        actor=entry.actor,
        source=entry.source,
        action=entry.action,
        subject=entry.subject,
        detail=entry.detail[:MAX_DETAIL],
        outcome=entry.outcome[:MAX_DETAIL],
    )
    session.add(row)
    return row


class AuditLog:
    """The log in the CIB."""

    def __init__(self, database: Database, clock: Callable[[], float], keep: int) -> None:
        """Keep the `keep` latest entries; `clock` is Unix time."""
        self.observers: list[Callable[[Entry], None]] = []
        """Are told of what callers asked for, once the outcome is known, and of alarms."""
        self._begun: dict[int, Entry] = {}
        self._database = database
        self._clock = clock
        self._keep = keep

    async def begin(self, entry: Entry) -> int:
        """Write what is about to be done; return the number of the entry."""
        now = self._clock()

        numbers: list[int] = []

        def change(session: Session) -> None:
            row = note(session, now, entry)
            session.flush()
            numbers.append(row.id)

        await self._database.submit(change)
        self._begun[numbers[-1]] = entry
        return numbers[-1]  # a change may have run more than once, the last time was it

    async def end(self, number: int, outcome: str) -> None:
        """Add what came of it."""
        entry = self._begun.pop(number, None)
        if entry is not None:
            self._tell(replace(entry, outcome=outcome))

        def change(session: Session) -> None:
            row = session.get(AuditRow, number)
            if row is not None:
                row.outcome = outcome[:MAX_DETAIL]

        await self._database.submit(change)

    async def add(self, entry: Entry) -> None:
        """Write what has happened."""
        now = self._clock()
        await self._database.submit(lambda session: note(session, now, entry))
        self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        for observer in self.observers:
            observer(entry)

    async def since(self, at: float, limit: int) -> list[AuditRow]:
        """Return the latest entries from a moment on, the oldest first."""
        query = select(AuditRow).where(AuditRow.at >= at).order_by(AuditRow.id.desc()).limit(limit)
        rows = await self._database.read(lambda session: list(session.scalars(query)))
        return rows[::-1]

    async def prune(self) -> None:
        """Forget the entries before the latest ones."""

        def change(session: Session) -> None:
            newest = session.scalar(select(func.max(AuditRow.id))) or 0
            session.execute(delete(AuditRow).where(AuditRow.id <= newest - self._keep))

        await self._database.submit(change)
