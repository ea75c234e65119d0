"""What monitoring keeps in the CIB; `controller.retention` says how much of it, and how long."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from controller.database import Base


class EventRow(Base):
    """Something that happened: `controller.events.Event`."""

    __tablename__ = "event"
    __table_args__ = (Index("event_by_intent", "intent", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[float]
    kind: Mapped[str]
    intent: Mapped[str | None]
    host: Mapped[str | None]
    phase: Mapped[str | None]
    text: Mapped[str]


class CounterRow(Base):
    """What a customization had counted at some time, since it was created."""

    __tablename__ = "counter"
    __table_args__ = (Index("counter_by_intent", "intent", "at"),)

    at: Mapped[float] = mapped_column(primary_key=True)
    customization: Mapped[str] = mapped_column(primary_key=True)
    intent: Mapped[str | None]
    host: Mapped[str]
    module: Mapped[str]
    flows: Mapped[int | None] = mapped_column(BigInteger)
    counters: Mapped[dict[str, int]] = mapped_column(JSON)


class FlowRow(Base):
    """A flow as its host told of it last."""

    __tablename__ = "flow"
    __table_args__ = (Index("flow_by_time", "seen"),)

    host: Mapped[str] = mapped_column(primary_key=True)
    transport: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    opened: Mapped[float] = mapped_column(primary_key=True)
    """0 where the tap does not know; kernels use numbers again, after a boot at the latest."""
    seen: Mapped[float]
    """When the host told of it last."""
    ended: Mapped[float | None]
    """When the host no longer told of it."""
    local: Mapped[str]
    local_port: Mapped[int]
    remote: Mapped[str | None]
    remote_port: Mapped[int | None]
    pid: Mapped[int | None] = mapped_column(BigInteger)
    tgid: Mapped[int | None] = mapped_column(BigInteger)
    thread: Mapped[str | None]
    process: Mapped[str | None]
    executable: Mapped[str | None]
    uid: Mapped[int | None] = mapped_column(BigInteger)
    last_sent: Mapped[float | None]
    last_received: Mapped[float | None]
    state: Mapped[str | None]
    intents: Mapped[str]
    """Names, each between blanks, so that one can be looked for."""
    customizations: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class AlertRow(Base):
    """Something that somebody should look at, until it is cleared."""

    __tablename__ = "alert"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    subject: Mapped[str]
    """What the alert is about: a host, an intent, a customization."""
    text: Mapped[str]
    raised: Mapped[float]
    cleared: Mapped[float | None]
