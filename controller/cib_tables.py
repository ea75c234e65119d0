"""The tables of the customization information base."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from controller.database import Base
from controller.phases import Phase
from controller.plan import Side
from wire.messages import Target

PHASE = Enum(
    Phase, native_enum=False, length=16, values_callable=lambda phases: [p.value for p in phases]
)


class HostRow(Base):
    """A host whose agent has connected at least once."""

    __tablename__ = "host"

    name: Mapped[str] = mapped_column(primary_key=True)
    addresses: Mapped[list[str]] = mapped_column(JSON)
    kernel: Mapped[str]
    boot_id: Mapped[str]
    tap: Mapped[str | None]
    tap_error: Mapped[str | None]
    targets: Mapped[list[Target]] = mapped_column(JSON)
    labels: Mapped[list[str]] = mapped_column(JSON)
    generation: Mapped[int] = mapped_column(BigInteger)
    """Follows what the host claims, which may be anything up to `HIGHEST_GENERATION`."""
    desired: Mapped[str]


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
    """An intent that is not gone."""

    __tablename__ = "intent"

    name: Mapped[str] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    mirrors: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    priority: Mapped[int]
    error: Mapped[str | None]
    revoked: Mapped[bool]
    active: Mapped[bool]
    deprecated: Mapped[bool]
    succession: Mapped[int]
    rotated_at: Mapped[float]
    left_out: Mapped[dict[str, str]] = mapped_column(JSON)


class DeploymentRow(Base):
    """Customizations of an intent that go up and down together."""

    __tablename__ = "deployment"

    uid: Mapped[str] = mapped_column(primary_key=True)
    intent: Mapped[str] = mapped_column(ForeignKey("intent.name"), index=True)
    number: Mapped[int]
    succession: Mapped[int]
    kind: Mapped[str]
    module: Mapped[str]
    parameters: Mapped[dict[str, int]] = mapped_column(JSON)
    phase: Mapped[Phase] = mapped_column(PHASE)
    error: Mapped[str | None]
    proven: Mapped[bool]
    ends: Mapped[bool]


class CustomizationRow(Base):
    """One customization of a deployment on a host."""

    __tablename__ = "customization"

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployment.uid"), index=True)
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
    generation: Mapped[int] = mapped_column(BigInteger)
    desired: Mapped[str]
