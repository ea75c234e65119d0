"""Where the network's policy is kept, and what a change of it means for running intents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, Session, mapped_column

from controller.database import Base, Database
from controller.facts import HostFacts
from controller.intent import Intent
from controller.policy import Policy, breaches, effective, endpoint_breach, strengthened
from wire.manifest import Manifest


class PolicyRow(Base):
    """The network's policy; there is one row, or none yet."""

    __tablename__ = "policy"

    id: Mapped[int] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)


class PolicyStore:
    """The policy in force: in memory what is committed."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database = database
        self.policy = policy

    @classmethod
    async def load(cls, database: Database) -> PolicyStore:
        """Return the store with what the database has."""

        def stored(session: Session) -> dict[str, Any]:
            row = session.get(PolicyRow, 1)
            return row.spec if row else {}

        return cls(database, Policy.model_validate(await database.read(stored)))

    async def set(self, policy: Policy) -> None:
        """Put a policy in force, once it is committed; raises Unavailable."""
        row = {"id": 1, "spec": policy.model_dump(mode="json")}
        await self._database.submit(lambda session: session.merge(PolicyRow(**row)))
        self.policy = policy


@dataclass(frozen=True)
class Running:
    """An intent that is not on its way down, and the hosts that have something of it."""

    intent: Intent
    hosts: tuple[HostFacts, ...]


@dataclass
class Impact:
    """What a policy means for running intents, by their names."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    """Sentences of the policy that they contradict."""
    changed: dict[str, list[str]] = field(default_factory=dict)
    """What of them becomes stricter."""


def impact(
    before: Policy,
    after: Policy,
    running: Iterable[Running],
    manifest_of: Callable[[str], Manifest],
) -> Impact:
    """Return what a change of the policy means for the intents that are running."""
    found = Impact()
    for one in running:
        intent = one.intent
        named = {end.host for end in (*intent.clients, *intent.servers) if end.host}
        off = kept_off(after, one)
        broken = breaches(after, intent, _manifests(intent, manifest_of))
        broken += [f"host {host}: {why}" for host, why in off.items() if host in named]
        if broken:
            found.broken[intent.name] = broken
            continue
        changed = strengthened(effective(before, intent), effective(after, intent))
        changed += [f"host {host} is left out: {why}" for host, why in off.items()]
        if changed:
            found.changed[intent.name] = changed
    return found


def kept_off(policy: Policy, running: Running) -> dict[str, str]:
    """Return those of an intent's hosts that a policy keeps intents off, with its sentence."""
    found = {
        host.name: endpoint_breach(policy.endpoints, host.name, host.labels, host.addresses)
        for host in running.hosts
    }
    return {name: why for name, why in found.items() if why is not None}


def _manifests(intent: Intent, manifest_of: Callable[[str], Manifest]) -> Mapping[str, Manifest]:
    return {name: manifest_of(name) for name in (intent.module, *intent.rotation.modules)}
