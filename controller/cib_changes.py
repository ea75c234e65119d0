"""What of the CIB was changed in memory and is not in the database yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Table, delete, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.bulk import Row, insert_rows, update_rows
from controller.cib_rows import (
    changing_values,
    customization_values,
    deployment_values,
    host_values,
    intent_values,
    number_values,
)
from controller.cib_tables import (
    CustomizationRow,
    DeploymentRow,
    EpochRow,
    HostRow,
    IntentRow,
    SteeringRow,
)
from controller.database import Base
from controller.model import Deployment, Host, IntentState
from controller.plan import Planned, Platform


@dataclass
class Changes:
    """Everything that `store` is to write, by what identifies it."""

    hosts: dict[str, Host] = field(default_factory=dict)
    """New, or described anew."""
    numbered: dict[str, Host] = field(default_factory=dict)
    intents: dict[str, IntentState] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    made: dict[str, Deployment] = field(default_factory=dict)
    """Deployments that are new."""
    items: dict[str, tuple[str, Planned]] = field(default_factory=dict)
    """Customizations that changed, each with its deployment."""
    digests: dict[tuple[str, Platform], str] = field(default_factory=dict)
    """Artifacts that were built, by deployment and platform: of its customizations without one."""
    dropped_hosts: set[str] = field(default_factory=set)
    dropped_intents: set[str] = field(default_factory=set)
    dropped_deployments: set[str] = field(default_factory=set)
    dropped_items: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    steering: tuple[int, str] | None = None

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def store(self) -> Callable[[Session], None]:
        """Return what writes all this, as it is now; what changes later is not in it.

        First what goes, as names may come again; a customization that moves goes and comes.
        """
        drops = [
            (CustomizationRow.id, sorted(self.dropped_items)),
            (CustomizationRow.deployment, sorted(self.dropped_deployments)),
            (DeploymentRow.uid, sorted(self.dropped_deployments)),
            (IntentRow.name, sorted(self.dropped_intents)),
            (HostRow.name, sorted(self.dropped_hosts)),
        ]
        inserts, updates = self._inserts(), self._updates()
        for host in self.hosts.values():
            host.stored = True
        for state in self.intents.values():
            state.stored = True
        epochs, steering, digests = dict(self.epochs), self.steering, dict(self.digests)

        def store(session: Session) -> None:
            for column, names in drops:
                _delete(session, column, names)
            for table, rows in inserts:
                insert_rows(session, table, rows)
            for table, rows in updates:
                update_rows(session, table, rows)
            for (deployment, platform), digest in digests.items():
                _give(session, deployment, platform, digest)
            for module, last in epochs.items():
                session.merge(EpochRow(module=module, last=last))
            if steering is not None:
                session.merge(SteeringRow(id=1, generation=steering[0], desired=steering[1]))

        return store

    def _inserts(self) -> Writes:
        customizations = [
            customization_values(made.uid, position, item)
            for made in self.made.values()
            for position, item in enumerate(made.planned())
        ]
        return _not_empty(
            (HostRow, [host_values(host) for host in self.hosts.values() if not host.stored]),
            (IntentRow, [intent_values(one) for one in self.intents.values() if not one.stored]),
            (DeploymentRow, [deployment_values(made) for made in self.made.values()]),
            (CustomizationRow, customizations),
        )

    def _updates(self) -> Writes:
        numbered = [h for name, h in self.numbered.items() if name not in self.hosts]
        deployments = [one for uid, one in self.deployments.items() if uid not in self.made]
        items = [changing_values(*one) for one in self.items.values() if one[0] not in self.made]
        return _not_empty(
            (HostRow, [host_values(host) for host in self.hosts.values() if host.stored]),
            (HostRow, [number_values(host) for host in numbered]),
            (IntentRow, [intent_values(one) for one in self.intents.values() if one.stored]),
            (DeploymentRow, [deployment_values(one) for one in deployments]),
            (CustomizationRow, items),
        )


Writes = list[tuple[Table, list[Row]]]
"""Rows for tables, in an order that foreign keys allow."""


def _not_empty(*writes: tuple[type[Base], list[Row]]) -> Writes:
    return [(cast(Table, kind.__table__), rows) for kind, rows in writes if rows]


CHUNK = 500
"""Names that one statement has."""


def _give(session: Session, deployment: str, platform: Platform, digest: str) -> None:
    """Give a deployment's customizations for a platform their artifact, where they have none."""
    session.execute(
        update(CustomizationRow)
        .where(
            CustomizationRow.deployment == deployment,
            CustomizationRow.target == platform.target,
            CustomizationRow.kernel.is_not_distinct_from(platform.kernel),
            CustomizationRow.digest.is_(None),
        )
        .values(digest=digest)
        .execution_options(synchronize_session=False)
    )


def _delete(session: Session, column: InstrumentedAttribute[str], names: list[str]) -> None:
    for begin in range(0, len(names), CHUNK):
        session.execute(delete(column.class_).where(column.in_(names[begin : begin + CHUNK])))
