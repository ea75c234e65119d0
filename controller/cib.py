"""The customization information base: what the NCO knows, in a database that survives it.

There is one writer, the service; it commits what it has decided before it tells anyone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, Enum, ForeignKey, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from controller.database import Base, Database
from controller.endpoints import is_usable
from controller.intent import Intent
from controller.phases import OVER, Phase, checked
from controller.plan import HostFacts, Plan, Planned, Platform, Side
from controller.switch_link import Mirror
from wire.match import Match
from wire.messages import Hello, Target

EPOCHS = 1 << 16


class HostRow(Base):
    """A host whose agent has connected at least once, as it described itself last."""

    __tablename__ = "host"

    name: Mapped[str] = mapped_column(primary_key=True)
    addresses: Mapped[list[str]] = mapped_column(JSON)
    kernel: Mapped[str]
    boot_id: Mapped[str]
    tap: Mapped[str | None]
    tap_error: Mapped[str | None]
    targets: Mapped[list[Target]] = mapped_column(JSON)
    generation: Mapped[int]
    """Number of its desired state; never goes backwards."""
    desired: Mapped[str]
    """Digest of the desired state that has this number."""

    def describe(self, hello: Hello) -> None:
        """Take over what the agent says of the host."""
        self.addresses = [address for address in hello.addresses if is_usable(address)]
        self.kernel = hello.kernel
        self.boot_id = hello.boot_id
        self.tap = hello.tap
        self.tap_error = hello.tap_error
        self.targets = list(hello.targets)

    def facts(self) -> HostFacts:
        """Return what the planner needs to know."""
        return HostFacts(
            name=self.name,
            addresses=tuple(self.addresses),
            targets=tuple(self.targets),
            tap_error=self.tap_error,
            kernel=self.kernel,
        )


class ArtifactRow(Base):
    """A compiled module; its bytes are a file in the folder of artifacts."""

    __tablename__ = "artifact"

    digest: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str]
    target: Mapped[Target]
    kernel: Mapped[str | None]


class BuildRow(Base):
    """What a build gave: the same sources, headers, compiler and flags give it again."""

    __tablename__ = "build"

    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("artifact.digest"))


class IntentRow(Base):
    """An intent: what was asked for, what was planned, and how far it is."""

    __tablename__ = "intent"

    name: Mapped[str] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    """Names this deployment; an intent that is applied anew gets another."""
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    mirrors_spec: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    phase: Mapped[Phase] = mapped_column(
        Enum(Phase, native_enum=False, values_callable=lambda phases: [p.value for p in phases])
    )
    error: Mapped[str | None]
    """Why it failed, from the moment it did."""
    customizations: Mapped[list[CustomizationRow]] = relationship(
        cascade="all, delete-orphan", order_by="CustomizationRow.position", lazy="selectin"
    )

    @property
    def intent(self) -> Intent:
        """What the operator asked for."""
        return Intent.model_validate(self.spec)

    @property
    def mirrors(self) -> list[Mirror]:
        """What the switches are asked for."""
        return [Mirror.model_validate(mirror) for mirror in self.mirrors_spec]

    def go(self, phase: Phase) -> None:
        """Enter another phase; raises PhaseError where the table does not allow it."""
        self.phase = checked(self.phase, phase)

    def by_host(self) -> dict[str, list[Planned]]:
        """Return what is planned, for each host."""
        planned: dict[str, list[Planned]] = {}
        for row in self.customizations:
            planned.setdefault(row.host, []).append(row.planned())
        return planned


class CustomizationRow(Base):
    """One planned customization of an intent on a host."""

    __tablename__ = "customization"

    id: Mapped[str] = mapped_column(primary_key=True)
    intent: Mapped[str] = mapped_column(ForeignKey("intent.name"), index=True)
    position: Mapped[int]
    host: Mapped[str] = mapped_column(ForeignKey("host.name"), index=True)
    side: Mapped[Side]
    module: Mapped[str]
    target: Mapped[Target]
    kernel: Mapped[str | None]
    match: Mapped[dict[str, Any]] = mapped_column(JSON)
    priority: Mapped[int]
    parameters: Mapped[bytes]
    receives: Mapped[bool]
    sends: Mapped[bool]
    epoch: Mapped[int]
    token: Mapped[bytes]
    """A secret; the file of this database is its owner's alone."""
    key: Mapped[bytes]
    """A secret, likewise."""
    digest: Mapped[str | None] = mapped_column(ForeignKey("artifact.digest"))

    @property
    def platform(self) -> Platform:
        """What its code is compiled for."""
        return Platform(self.target, self.kernel)

    def planned(self) -> Planned:
        """Return it as the planner made it."""
        return Planned(
            id=self.id,
            intent=self.intent,
            host=self.host,
            side=self.side,
            module=self.module,
            platform=self.platform,
            match=Match.model_validate(self.match),
            priority=self.priority,
            parameters=self.parameters,
            receives=self.receives,
            sends=self.sends,
            epoch=self.epoch,
            token=self.token,
            key=self.key,
            digest=self.digest,
        )


class EpochRow(Base):
    """The epoch of a module's last deployment for streams: none comes back while it may be known.

    It outlives its intents, as a stream may be decoded long after they are gone.
    """

    __tablename__ = "epoch"

    module: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int]


class SteeringRow(Base):
    """Number and digest of what the switches should have; there is one row."""

    __tablename__ = "steering"

    id: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[int]
    desired: Mapped[str]


class Cib:
    """The database, opened by its one writer."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database.engine, expire_on_commit=False)
        self._hosts: dict[str, HostRow] = {}

    def close(self) -> None:
        """Give its connection back."""
        self._session.close()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Run the block in a transaction: all of it is committed at the end, or nothing."""
        # Ends what was only read, and begins by writing: SQLite would refuse to let a transaction
        # write that has read what another connection, the database's writer, changed meanwhile.
        self._session.commit()
        self._session.execute(update(SteeringRow).values(generation=SteeringRow.generation))
        try:
            yield self._session
            self._session.commit()
        except BaseException:
            self._session.rollback()
            raise

    def hosts(self) -> dict[str, HostRow]:
        """Return all hosts by name."""
        # Held, as the session forgets rows that nobody holds, and `host` would ask for each again.
        self._hosts = {row.name: row for row in self._session.scalars(select(HostRow))}
        return dict(self._hosts)

    def host(self, name: str) -> HostRow | None:
        """Return one host."""
        return self._session.get(HostRow, name)

    def intents(self) -> list[IntentRow]:
        """Return all intents that are not gone, in the order of their names."""
        rows = select(IntentRow).where(IntentRow.phase != Phase.GONE).order_by(IntentRow.name)
        return list(self._session.scalars(rows))

    def intent(self, name: str) -> IntentRow | None:
        """Return one intent, also one that is gone and not forgotten yet."""
        return self._session.get(IntentRow, name)

    def compiled_for_another(self, host: HostRow) -> list[CustomizationRow]:
        """Return those of a host whose code is for another kernel than it runs now."""
        there = select(CustomizationRow).where(
            CustomizationRow.host == host.name,
            CustomizationRow.kernel.is_not(None),
            CustomizationRow.kernel != host.kernel,
        )
        return list(self._session.scalars(there))

    def artifact(self, digest: str) -> ArtifactRow | None:
        """Return what is known of an artifact."""
        return self._session.get(ArtifactRow, digest)

    def build(self, key: str) -> BuildRow | None:
        """Return what a build gave, if it was done before."""
        return self._session.get(BuildRow, key)

    def steering(self) -> SteeringRow:
        """Return the number of what the switches should have."""
        row = self._session.get(SteeringRow, 1)
        if row is None:
            row = SteeringRow(id=1, generation=0, desired="")
            self._session.add(row)
        return row

    def next_epoch(self, module: str) -> int:
        """Return the epoch of a module's next deployment; none that is in use."""
        row = self._session.get(EpochRow, module)
        used = {
            customization.epoch
            for intent in self.intents()
            if intent.phase not in OVER
            for customization in intent.customizations
            if customization.module == module
        }
        after = row.last + 1 if row else 1
        return next(n % EPOCHS for n in range(after, after + EPOCHS) if n % EPOCHS not in used)

    def add_intent(self, intent: Intent, plan: Plan, uid: str) -> None:
        """Store a new intent in its first phase, in place of one that is over."""
        with self.writing() as session:
            old = self.intent(intent.name)
            if old is not None:
                checked_over(old)
                session.delete(old)
                session.flush()
            for epoch in {planned.epoch for planned in plan.customizations} - {0}:
                session.merge(EpochRow(module=intent.module, last=epoch))
            session.add(
                IntentRow(
                    name=intent.name,
                    uid=uid,
                    spec=intent.model_dump(mode="json"),
                    mirrors_spec=[mirror.model_dump(mode="json") for mirror in plan.mirrors],
                    phase=Phase.BUILDING,
                    error=None,
                    customizations=[
                        _customization_row(position, planned)
                        for position, planned in enumerate(plan.customizations)
                    ],
                )
            )

    def forget(self, name: str) -> None:
        """Remove an intent if it is gone, within the transaction that is under way."""
        row = self.intent(name)
        if row is not None and row.phase == Phase.GONE:
            self._session.delete(row)

    def forget_gone(self) -> None:
        """Remove the intents that are gone."""
        with self.writing() as session:
            for row in session.scalars(select(IntentRow).filter_by(phase=Phase.GONE)):
                session.delete(row)


def checked_over(row: IntentRow) -> None:
    """Raise where an intent may still be on some host: replacing it would forget that."""
    if row.phase not in OVER:
        raise ValueError(f"intent {row.name} is in phase {row.phase}")


def _customization_row(position: int, planned: Planned) -> CustomizationRow:
    return CustomizationRow(
        id=planned.id,
        position=position,
        host=planned.host,
        side=planned.side,
        module=planned.module,
        target=planned.platform.target,
        kernel=planned.platform.kernel,
        match=planned.match.model_dump(mode="json"),
        priority=planned.priority,
        parameters=planned.parameters,
        receives=planned.receives,
        sends=planned.sends,
        epoch=planned.epoch,
        token=planned.token,
        key=planned.key,
        digest=planned.digest,
    )
