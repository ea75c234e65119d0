"""The customization information base: what the NCO knows, in memory, of what a database holds.

There is one writer, the service. It changes the objects here, notes what it changed, and has all
of it committed in one transaction (`take_changes`) before it tells anyone. Where that fails, what
is in memory was never so: it is loaded again (`read_all`, `take`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.cib_changes import Changes
from controller.cib_rows import deployment_of, host_of, intent_of, planned_of
from controller.cib_tables import (
    ArtifactRow,
    BuildRow,
    CustomizationRow,
    DeploymentRow,
    EpochRow,
    HostRow,
    IntentRow,
    SteeringRow,
)
from controller.errors import Conflict
from controller.model import Deployment, Host, IntentState
from controller.phases import OVER
from controller.plan import Planned, Platform

EPOCHS = (1 << 16) - 1
"""Epochs that there are, from 1: 0 is said of what has none."""

PARTED_KEPT = 256
"""Deployments whose epochs are not given out again yet: kernels may still drain their streams."""

GONE_KEPT = 256
"""Intents that are shown as gone for a while; what an operator waits for may not just vanish."""


@dataclass
class Steering:
    """Number and digest of what the switches should have."""

    generation: int = 0
    desired: str = ""


@dataclass
class Content:
    """All that the database holds, as objects."""

    hosts: dict[str, Host] = field(default_factory=dict)
    intents: dict[str, IntentState] = field(default_factory=dict)
    artifacts: dict[str, ArtifactRow] = field(default_factory=dict)
    builds: dict[str, str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    steering: Steering = field(default_factory=Steering)


def read_all(session: Session) -> Content:
    """Read what the database holds."""
    content = Content(
        hosts={row.name: host_of(row) for row in session.scalars(select(HostRow))},
        intents={row.name: intent_of(row) for row in session.scalars(select(IntentRow))},
        artifacts={row.digest: row for row in session.scalars(select(ArtifactRow))},
        builds={row.key: row.digest for row in session.scalars(select(BuildRow))},
        epochs={row.module: row.last for row in session.scalars(select(EpochRow))},
    )
    steering = session.get(SteeringRow, 1)
    if steering is not None:
        content.steering = Steering(steering.generation, steering.desired)
    _read_deployments(session, content)
    session.expunge_all()
    return content


def _read_deployments(session: Session, content: Content) -> None:
    deployments: dict[str, Deployment] = {}
    for row in session.scalars(select(DeploymentRow).order_by(DeploymentRow.number)):
        deployments[row.uid] = deployment_of(row)
        content.intents[row.intent].deployments.append(deployments[row.uid])
    planned: dict[str, list[Planned]] = {}
    for item in session.scalars(select(CustomizationRow).order_by(CustomizationRow.position)):
        intent = deployments[item.deployment].intent
        planned.setdefault(item.deployment, []).append(planned_of(item, intent))
    for uid, deployment in deployments.items():
        deployment.fill(planned.get(uid, ()))
        if deployment.phase not in OVER:
            for name in deployment.items:
                content.hosts[name].deployments[uid] = deployment


class Cib:
    """See the module's text. All methods are called from one thread."""

    def __init__(self, content: Content | None = None) -> None:
        self._content = content or Content()
        self._changes = Changes()
        self._gone: OrderedDict[str, IntentState] = OrderedDict()
        self._parted: deque[tuple[str, int]] = deque(maxlen=PARTED_KEPT)
        """Module and epoch of the deployments that went last."""

    def take(self, content: Content) -> None:
        """Forget what was changed since the last commit: `content` is so.

        Artifacts are stored on their own, perhaps since `content` was read.
        """
        content.artifacts = {**self._content.artifacts, **content.artifacts}
        content.builds = {**self._content.builds, **content.builds}
        self._content, self._changes = content, Changes()

    def take_changes(self) -> Callable[[Session], None] | None:
        """Return what stores all changes since the last time; None where there are none."""
        changes, self._changes = self._changes, Changes()
        return changes.store() if changes else None

    # -- hosts

    def hosts(self) -> dict[str, Host]:
        """Return all hosts by name; not to be changed."""
        return self._content.hosts

    def host(self, name: str) -> Host | None:
        """Return one host."""
        return self._content.hosts.get(name)

    def add_host(self, name: str) -> Host:
        """Return a host that nothing is known of yet."""
        host = self._content.hosts[name] = Host(name)
        return host

    def note_host(self, host: Host) -> None:
        """Have a host's description stored."""
        self._changes.hosts[host.name] = host

    def note_number(self, host: Host) -> None:
        """Have the number of a host's desired state stored."""
        self._changes.numbered[host.name] = host

    def drop_host(self, host: Host) -> None:
        """Forget a host that has nothing any more."""
        del self._content.hosts[host.name]
        self._changes.hosts.pop(host.name, None)
        self._changes.numbered.pop(host.name, None)
        if host.stored:
            self._changes.dropped_hosts.add(host.name)

    # -- intents

    def intents(self) -> list[IntentState]:
        """Return all intents that are not gone, in the order of their names."""
        return [self._content.intents[name] for name in sorted(self._content.intents)]

    def intent(self, name: str) -> IntentState | None:
        """Return one intent, also one that is gone and not forgotten yet."""
        return self._content.intents.get(name) or self._gone.get(name)

    def add_intent(self, state: IntentState) -> None:
        """Add a new intent, in place of one that is over."""
        old = self._content.intents.get(state.name)
        if old is not None:
            if old.phase not in OVER:
                raise ValueError(f"intent {old.name} is in phase {old.phase}")
            for deployment in list(old.deployments):
                self.drop_deployment(old, deployment)
            self._drop_intent(old)
        self._gone.pop(state.name, None)
        self._content.intents[state.name] = state
        self._changes.intents[state.name] = state

    def note_intent(self, state: IntentState) -> None:
        """Have an intent stored, if it is not gone."""
        if self._content.intents.get(state.name) is state:
            self._changes.intents[state.name] = state

    def intent_is_gone(self, state: IntentState) -> None:
        """Forget an intent, but show it for a while."""
        self._drop_intent(state)
        self._gone[state.name] = state
        while len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)

    def _drop_intent(self, state: IntentState) -> None:
        del self._content.intents[state.name]
        self._changes.intents.pop(state.name, None)
        if state.stored:
            self._changes.dropped_intents.add(state.name)

    # -- deployments and their customizations

    def add_deployment(self, state: IntentState, deployment: Deployment) -> None:
        """Add a deployment to an intent and to its hosts."""
        epoch = _epoch(deployment)
        is_new = epoch == self.next_epoch(deployment.module) if epoch else False
        state.deployments.append(deployment)
        for name in deployment.items:
            self._content.hosts[name].deployments[deployment.uid] = deployment
        self._changes.made[deployment.uid] = deployment
        if epoch and is_new:
            self._content.epochs[deployment.module] = epoch
            self._changes.epochs[deployment.module] = epoch

    def note_deployment(self, deployment: Deployment) -> None:
        """Have a deployment's phase stored."""
        self._changes.deployments[deployment.uid] = deployment

    def drop_deployment(self, state: IntentState, deployment: Deployment) -> None:
        """Take a deployment out of an intent: nothing of it is left on any host."""
        state.deployments.remove(deployment)
        self.forget_deployment(deployment)

    def forget_deployment(self, deployment: Deployment) -> None:
        """Have a deployment no longer stored, as its intent is gone."""
        self.leave_hosts(deployment, deployment.items)
        self._changes.deployments.pop(deployment.uid, None)
        if epoch := _epoch(deployment):
            self._parted.append((deployment.module, epoch))
        for item in deployment.planned():
            self._changes.items.pop(item.id, None)
        if self._changes.made.pop(deployment.uid, None) is None:
            self._changes.dropped_deployments.add(deployment.uid)

    def leave_hosts(self, deployment: Deployment, hosts: Iterable[str]) -> None:
        """Note that these hosts have nothing of a deployment any more."""
        for name in hosts:
            if host := self._content.hosts.get(name):
                host.deployments.pop(deployment.uid, None)

    def set_item(self, deployment: Deployment, position: int, item: Planned) -> None:
        """Put a customization in the place of an older version of it."""
        deployment.items[item.host][position] = item
        self._changes.items[item.id] = (deployment.uid, item)

    def set_digests(self, deployment: Deployment, digests: Mapping[Platform, str]) -> None:
        """Give a deployment's customizations that have no artifact those that were built."""
        for items in deployment.items.values():
            for position, item in enumerate(items):
                if item.digest is None and item.platform in digests:
                    items[position] = replace(item, digest=digests[item.platform])
        deployment.unbuilt -= set(digests)
        for platform, digest in digests.items():
            self._changes.digests[deployment.uid, platform] = digest

    def take_items(self, deployment: Deployment, ids: set[str]) -> list[Planned]:
        """Take customizations out of a deployment, to be put into another, or forgotten."""
        taken: list[Planned] = []
        for host in list(deployment.items):
            items = deployment.items[host]
            out = [item for item in items if item.id in ids]
            if not out:
                continue
            taken += out
            deployment.items[host] = [item for item in items if item.id not in ids]
            if not deployment.items[host]:
                del deployment.items[host]
                deployment.unconfirmed.discard(host)
                self.leave_hosts(deployment, [host])
        for item in taken:
            self._changes.items.pop(item.id, None)
            if deployment.uid not in self._changes.made:
                self._changes.dropped_items.add(item.id)
        if deployment.unbuilt:
            deployment.unbuilt &= {item.platform for item in deployment.planned()}
        return taken

    # -- artifacts

    def artifact(self, digest: str) -> ArtifactRow | None:
        """Return what is known of an artifact."""
        return self._content.artifacts.get(digest)

    def build(self, key: str) -> str | None:
        """Return the digest of what a build gave, if it was done before."""
        return self._content.builds.get(key)

    def add_build(self, key: str, artifact: ArtifactRow) -> None:
        """Note what a build gave, which is stored already."""
        self._content.artifacts[artifact.digest] = artifact
        self._content.builds[key] = artifact.digest

    # -- numbers

    def steering(self) -> Steering:
        """Return the number of what the switches should have."""
        return self._content.steering

    def number_steering(self, desired: str) -> None:
        """Give what the switches should have its number, where it changed."""
        steering = self._content.steering
        if steering.desired != desired:
            steering.desired = desired
            steering.generation += 1
            self._changes.steering = (steering.generation, steering.desired)

    def next_epoch(self, module: str) -> int:
        """Return the epoch of a module's next deployment; none that is in use, or just was.

        Raises Conflict where there is no other.
        """
        used = {
            item.epoch
            for state in self._content.intents.values()
            for deployment in state.deployments
            if deployment.module == module and deployment.phase not in OVER
            for item in deployment.planned()
        }
        used |= {epoch for name, epoch in self._parted if name == module}
        last = self._content.epochs.get(module, 0)
        for number in range(last, last + EPOCHS):
            if (epoch := number % EPOCHS + 1) not in used:
                return epoch
        raise Conflict(f"all epochs of module {module} are in use: revoke an intent that has it")


def _epoch(deployment: Deployment) -> int:
    return next((item.epoch for item in deployment.planned()), 0)
