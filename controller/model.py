"""What the NCO knows, as plain objects in memory: hosts, intents, and their deployments.

`controller.cib` loads them from the database and stores what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from controller.endpoints import is_usable
from controller.intent import Intent
from controller.phases import OVER, Phase, is_asked
from controller.plan import HostFacts, Planned, Platform
from controller.switch_link import Mirror
from wire.match import Transport
from wire.messages import Customization, Hello, Target

Kind = Literal["first", "rotation", "joined", "left"]
"""Why a deployment exists: the intent was applied, it is rotated, hosts came, hosts go."""


@dataclass(eq=False)
class Host:
    """A host whose agent has connected at least once, as it described itself last."""

    name: str
    addresses: tuple[str, ...] = ()
    kernel: str = ""
    boot_id: str = ""
    tap: str | None = None
    tap_error: str | None = None
    targets: tuple[Target, ...] = ()
    labels: tuple[str, ...] = ()
    """What the operator called it, each `NAME=VALUE`."""
    generation: int = 0
    """Number of its desired state; never goes backwards."""
    desired: str = ""
    """Digest of the desired state that has this number."""
    stored: bool = False
    """Whether the database has it."""
    deployments: dict[str, Deployment] = field(default_factory=dict)
    """Those that have customizations here, by uid, in the order in which they came."""
    customizations: list[Customization] = field(default_factory=list)
    """The desired state that has this number; empty until it was made in this process."""

    def describe(self, hello: Hello) -> bool:
        """Take over what the agent says of the host; return whether that is new.

        A host that has no address at the moment keeps those by which it is known.
        """
        before = self._description()
        self.addresses = tuple(filter(is_usable, hello.addresses)) or self.addresses
        self.kernel = hello.kernel
        self.boot_id = hello.boot_id
        self.tap = hello.tap
        self.tap_error = hello.tap_error
        self.targets = tuple(hello.targets)
        return before != self._description()

    def facts(self, settled: Mapping[Transport, Target] | None = None) -> HostFacts:
        """Return what the planner needs to know."""
        return HostFacts(
            name=self.name,
            addresses=self.addresses,
            targets=self.targets,
            tap_error=self.tap_error,
            kernel=self.kernel,
            settled=settled or {},
            labels=frozenset(self.labels),
        )

    def _description(self) -> tuple[object, ...]:
        ours = (self.addresses, self.kernel, self.boot_id, self.tap, self.tap_error, self.targets)
        return (*ours, self.stored)


@dataclass(eq=False)
class Deployment:
    """Customizations of an intent that go up and down together."""

    uid: str
    intent: str
    number: int
    """Counts the deployments of an intent."""
    succession: int
    """Which of an intent's modules, or keys, it carries; a rotation has the next."""
    kind: Kind
    module: str
    parameters: dict[str, int]
    phase: Phase = Phase.BUILDING
    error: str | None = None
    """Why it fails, from the moment it does."""
    proven: bool = False
    """Whether it was active once; what is activated again waits for who refuses."""
    ends: bool = False
    """Whether it goes down to be removed, and not to become inactive."""
    items: dict[str, list[Planned]] = field(default_factory=dict)
    """Its customizations, by host."""
    unconfirmed: set[str] = field(default_factory=set)
    """Hosts that have not confirmed its phase."""
    unbuilt: set[Platform] = field(default_factory=set)
    """What its code is still to be compiled for."""

    def fill(self, planned: Iterable[Planned]) -> None:
        """Take over customizations."""
        for item in planned:
            self.items.setdefault(item.host, []).append(item)
            if item.digest is None:
                self.unbuilt.add(item.platform)
        self.ask()

    def ask(self) -> None:
        """Forget who has confirmed: the phase is new, or nothing is known yet."""
        self.unconfirmed = {
            host for host, items in self.items.items() if is_asked(items, self.phase)
        }

    def is_on(self, host: str) -> bool:
        """Whether a host may still have something of it."""
        if self.phase == Phase.REMOVE:
            return host in self.unconfirmed
        return host in self.items and self.phase not in OVER

    def planned(self) -> Iterator[Planned]:
        """Yield all customizations."""
        for items in self.items.values():
            yield from items

    @property
    def goes_down(self) -> bool:
        """Whether it will not be there for long."""
        return self.ends or self.phase in OVER


_UP = (Phase.ACTIVE, Phase.SEND, Phase.RECEIVE, Phase.BUILDING)
_DOWN = (Phase.STOP_SEND, Phase.DRAIN, Phase.INACTIVE, Phase.REMOVE, Phase.FAILED)


@dataclass(eq=False)
class IntentState:
    """An intent: what was asked for, and what came of it."""

    name: str
    intent: Intent
    """As it was applied; what rotations made of it stands in the deployments."""
    mirrors: list[Mirror] = field(default_factory=list)
    priority: int = 100
    error: str | None = None
    """What went wrong last, and was not mended since."""
    revoked: bool = False
    active: bool = True
    deprecated: bool = False
    succession: int = 1
    """The newest that was begun."""
    rotated_at: float = 0.0
    """Unix time at which the newest succession was begun."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Hosts that it no longer means, each with the reason."""
    unfollowed: str | None = None
    """Why its hosts cannot be looked at as they are now; it stays as it was. Not stored."""
    deployments: list[Deployment] = field(default_factory=list)
    stored: bool = False

    @property
    def phase(self) -> Phase:
        """Where it is as a whole: as far up as one of its deployments, else the last going down."""
        there = {deployment.phase for deployment in self.deployments}
        if Phase.ACTIVE not in there and Phase.INACTIVE in there and not self.revoked:
            return Phase.INACTIVE
        return next((phase for phase in (*_UP, *_DOWN) if phase in there), Phase.GONE)

    @property
    def module(self) -> str:
        """The module that it has now, or will have next."""
        stays = [one for one in self.deployments if not one.goes_down] or self.deployments
        return stays[-1].module if stays else self.intent.module

    def by_host(self) -> dict[str, list[Planned]]:
        """Return all that is planned, for each host."""
        planned: dict[str, list[Planned]] = {}
        for deployment in self.deployments:
            for host, items in deployment.items.items():
                planned.setdefault(host, []).extend(items)
        return planned
