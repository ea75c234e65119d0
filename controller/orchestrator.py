"""Joins intents, hosts and switches: who should have what, who has it, and what comes next.

The orchestrator is plain logic over the CIB: it does no I/O of its own, and takes its clock and
its links as arguments. Whatever happens (an agent connects or reports, an operator asks, a build
ends) is noted, and `settle` is due: it lets intents go as far as hosts have confirmed, numbers
the desired states that changed, commits both in one transaction, and only then sends.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from controller.artifacts import ArtifactStore
from controller.cib import Cib, HostRow, IntentRow
from controller.deconflict import check_flows
from controller.errors import Conflict, NotFound
from controller.history import History
from controller.intent import Intent
from controller.modules import ModuleLibrary
from controller.phases import (
    ARRIVED,
    DEPLOYED,
    GOING_UP,
    ONWARD,
    OVER,
    RETREAT,
    HostNow,
    Phase,
    fault,
    obstacle,
    wanted,
)
from controller.plan import (
    HostFacts,
    Plan,
    Planned,
    Platform,
    check_mirrors,
    check_modules,
    check_room,
    make_plan,
)
from controller.policy import Policy
from controller.switch_link import Steering
from wire.frames import encode
from wire.match import Transport
from wire.messages import (
    ArtifactData,
    Customization,
    Desired,
    Hello,
    NcoMessage,
    Report,
    Target,
    dump,
)

log = logging.getLogger(__name__)

ASK_AGAIN = 5.0
"""Seconds after which a host that refuses its desired state is asked again."""

GONE_KEPT = 256
"""Intents that are shown as gone for a while; what an operator waits for may not just vanish."""


class Link(Protocol):
    """A connection to an agent that has introduced itself."""

    def send(self, message: NcoMessage) -> None:
        """Send without waiting."""

    def refuse(self, reason: str) -> None:
        """Tell the agent why it is not served, close, and log it."""


@dataclass
class Agent:
    """A connected agent and what it said on this connection."""

    link: Link
    newest: int
    """The highest generation it spoke of; above ours where our own memory was lost."""
    report: Report | None = None
    sent: int | None = None
    """The last generation sent on this connection."""
    sent_at: float = 0.0
    """When, by the orchestrator's clock."""
    digests: frozenset[str] = frozenset()
    """Artifacts that it was sent the names of last."""

    def refuses(self, generation: int) -> bool:
        """Whether it said that it does not take this generation."""
        return self.report is not None and self.report.refused == generation


@dataclass(frozen=True)
class BuildOrder:
    """An intent that waits for its artifacts."""

    intent: str
    uid: str
    module: str
    platforms: frozenset[Platform]


class Orchestrator:
    """See the module's text. All methods are called from one thread."""

    def __init__(
        self,
        cib: Cib,
        modules: ModuleLibrary,
        artifacts: ArtifactStore,
        history: History,
        *,
        control: tuple[str, int],
        linger: float,
        clock: Callable[[], float],
        changed: Callable[[], None],
        lacking: Callable[[Platform], str | None] = lambda _: None,
        policy: Callable[[], Policy] = Policy,
        new_uid: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        """`control` is what switches never steer; `changed` is called when `settle` is due.

        `clock` gives seconds that never go backwards, `lacking` says why nothing can be compiled
        for a platform, `policy` gives the network's policy.
        """
        self.cib = cib
        self.modules = modules
        self.history = history
        self._artifacts = artifacts
        self._control = control
        self._linger = linger
        self._clock = clock
        self._changed = changed
        self._lacking = lacking
        self._policy = policy
        self._new_uid = new_uid
        self._agents: dict[str, Agent] = {}
        self._draining: dict[str, float] = {}
        """When an intent entered its drain; counted anew by a service that was restarted."""
        self._confirmed: dict[str, set[str]] = {}
        """Hosts that have confirmed the phase an intent is in."""
        self._gone: deque[str] = deque()
        cib.forget_gone()

    # -- agents

    def connected(self, link: Link, hello: Hello) -> None:
        """Note an agent that has introduced itself; close an older connection of the same host."""
        with self.cib.writing() as session:
            row = self.cib.host(hello.host)
            if row is None:
                row = HostRow(name=hello.host, generation=0, desired="")
                session.add(row)
            row.describe(hello)
            for outdated in self.cib.compiled_for_another(row):
                outdated.kernel, outdated.digest = row.kernel, None
        old = self._agents.get(hello.host)
        self._agents[hello.host] = Agent(link, newest=hello.generation)
        if old is not None:
            old.link.refuse(f"another agent connected as {hello.host!r}")
        self._changed()

    def disconnected(self, host: str, link: Link) -> None:
        """Note that a connection has ended."""
        agent = self._agents.get(host)
        if agent is not None and agent.link is link:
            del self._agents[host]
            self._changed()

    def reported(self, host: str, link: Link, report: Report) -> None:
        """Note what an agent says is so."""
        agent = self._agents.get(host)
        if agent is not None and agent.link is link:
            agent.report = report
            agent.newest = max(agent.newest, report.generation, report.refused or 0)
            self._changed()

    def artifact_for(self, host: str, digest: str) -> ArtifactData | None:
        """Return an artifact that the host's newest desired state names, else None."""
        agent = self._agents.get(host)
        return self._artifacts.message(digest) if agent and digest in agent.digests else None

    def now(self, host: str) -> HostNow:
        """Return what is known of a host at this moment."""
        agent, row = self._agents.get(host), self.cib.host(host)
        return HostNow(
            connected=agent is not None,
            generation=row.generation if row else 0,
            report=agent.report if agent else None,
        )

    # -- operators

    def plan(self, intent: Intent) -> Plan:
        """Return what `intent` would make; raises Refusal where it cannot be applied."""
        return self._plan(intent, self._new_uid())

    def apply(self, intent: Intent) -> bool:
        """Begin to deploy an intent; False where it is there already.

        Raises Refusal, and changes nothing then.
        """
        row = self.cib.intent(intent.name)
        if row is not None and row.phase not in OVER:
            if row.phase not in GOING_UP and row.phase != Phase.BUILDING:
                raise Conflict(f"intent {intent.name!r} is being revoked: wait until it is gone")
            if row.intent != intent:
                raise Conflict(
                    f"intent {intent.name!r} exists and asks for something else: "
                    f"`nco revoke {intent.name}` first, or choose another name"
                )
            return False
        uid = self._new_uid()
        self.cib.add_intent(intent, self._plan(intent, uid), uid.hex)
        self.history.add(intent.name, Phase.BUILDING, f"module {intent.module}")
        self._changed()
        return True

    def revoke(self, name: str, why: str = "revoked") -> None:
        """Begin to take an intent away; raises NotFound."""
        row = self.cib.intent(name)
        if row is None or row.phase == Phase.GONE:
            raise self.unknown(name)
        with self.cib.writing():
            row.error = None
            if row.phase in RETREAT:
                self._enter(row, RETREAT[row.phase], why)
        self._changed()

    def unknown(self, name: str) -> NotFound:
        """Return what is said of an intent that is not there."""
        known = ", ".join(row.name for row in self.cib.intents())
        return NotFound(f"there is no intent {name!r}; intents: {known or 'none'}")

    def _plan(self, intent: Intent, uid: uuid.UUID) -> Plan:
        others = [
            row for row in self.cib.intents() if row.name != intent.name and row.phase not in OVER
        ]
        customizations = [c.planned() for row in others for c in row.customizations]
        policy = self._policy()
        check_modules(intent, policy, self.modules.manifest)
        hosts = self._facts(customizations)
        plan = make_plan(
            intent,
            self.modules.manifest(intent.module),
            hosts,
            uid,
            epoch=self.cib.next_epoch(intent.module),
            lacking=self._lacking,
            policy=policy,
        )
        check_room(plan, customizations)
        addresses = {name: facts.addresses for name, facts in hosts.items()}
        check_flows(plan, customizations, self.modules.manifest, addresses)
        check_mirrors(plan, sum(len(row.mirrors_spec) for row in others))
        return plan

    def _facts(self, customizations: Iterable[Planned]) -> dict[str, HostFacts]:
        """Return what is known of each host that has these customizations already."""
        settled: dict[str, dict[Transport, Target]] = {}
        for one in customizations:
            settled.setdefault(one.host, {})[one.match.transport] = one.target
        return {
            name: replace(row.facts(), settled=settled.get(name, {}))
            for name, row in self.cib.hosts().items()
        }

    # -- builds

    def to_build(self) -> list[BuildOrder]:
        """Return which intents wait for artifacts."""
        orders = [
            BuildOrder(
                row.name,
                row.uid,
                row.intent.module,
                frozenset(c.platform for c in row.customizations if c.digest is None),
            )
            for row in self.cib.intents()
            if row.phase in GOING_UP or row.phase == Phase.BUILDING
        ]
        return [order for order in orders if order.platforms]

    def built(self, order: BuildOrder, digests: dict[Platform, str]) -> None:
        """Go on with an intent whose artifacts are all in the store."""
        row = self._ordered(order)
        if row is None:
            return
        with self.cib.writing():
            for one in row.customizations:
                one.digest = one.digest or digests.get(one.platform)
            names = ", ".join(f"{platform} {digest[:12]}" for platform, digest in digests.items())
            what = f"artifact {names} is built"
            if row.phase != Phase.BUILDING:
                self.history.add(row.name, row.phase, what)
            elif all(one.digest for one in row.customizations):
                self._enter(row, Phase.RECEIVE, what)
        self._changed()

    def build_failed(self, order: BuildOrder, reason: str) -> None:
        """Fail an intent whose artifacts cannot be made."""
        row = self._ordered(order)
        if row is None:
            return
        with self.cib.writing():
            row.error = reason
            building = row.phase == Phase.BUILDING
            self._enter(row, Phase.FAILED if building else RETREAT[row.phase], reason)
        self._changed()

    def _ordered(self, order: BuildOrder) -> IntentRow | None:
        """Return the intent that ordered a build, if it still waits for one."""
        row = self.cib.intent(order.intent)
        if row is None or row.uid != order.uid:
            return None
        return row if row.phase in GOING_UP or row.phase == Phase.BUILDING else None

    # -- what comes next

    def settle(self) -> float | None:
        """Go as far as possible, commit, then send; return in how many seconds to look again."""
        with self.cib.writing():
            self._number_desired_states()
            while any([self._advance(row) for row in self.cib.intents()]):
                self._number_desired_states()
            self._number_steering()
            self._forget_gone()
        self._send_desired_states()
        return self._next_look()

    def waiting(self, row: IntentRow) -> dict[str, str]:
        """Return the hosts that have not confirmed an intent's phase, each with the reason."""
        if row.phase in OVER or row.phase == Phase.BUILDING:
            return {}
        reasons = {
            host: obstacle(planned, row.phase, self.now(host))
            for host, planned in row.by_host().items()
        }
        return {host: reason for host, reason in reasons.items() if reason is not None}

    def desired(self) -> dict[str, list[Customization]]:
        """Return what each host should have: a function of the phases of all intents."""
        states: dict[str, list[Customization]] = {host: [] for host in self.cib.hosts()}
        for row in self.cib.intents():
            for host, planned in row.by_host().items():
                every = (wanted(item, row.phase) for item in planned)
                states[host] += [customization for customization in every if customization]
        return states

    def steering(self) -> Steering:
        """Return what the switches should have."""
        return Steering(
            generation=self.cib.steering().generation,
            control=self._control,
            mirrors=[
                mirror
                for row in self.cib.intents()
                if row.phase in DEPLOYED
                for mirror in row.mirrors
            ],
        )

    def _advance(self, row: IntentRow) -> bool:
        """Let one intent take at most one step; whether it did."""
        if row.phase not in ONWARD and row.phase != Phase.ACTIVE:
            return False
        for host, planned in row.by_host().items():
            reason = fault(planned, row.phase, self.now(host))
            if reason is not None:
                row.error = f"host {host}: {reason}"
                self._enter(row, RETREAT[row.phase], row.error)
                return True
        waiting = self.waiting(row)
        self._note_confirmations(row, waiting)
        if row.phase == Phase.ACTIVE or waiting or not self._drained(row):
            return False
        onward, why = ONWARD[row.phase], ARRIVED[ONWARD[row.phase]]
        if onward == Phase.GONE and row.error is not None:
            onward, why = Phase.FAILED, row.error
        self._enter(row, onward, why)
        if onward == Phase.ACTIVE:
            self._confirmed[row.name] = set(row.by_host())  # `send` asked the same of them
        return True

    def _enter(self, row: IntentRow, phase: Phase, why: str) -> None:
        row.go(phase)
        self._confirmed.pop(row.name, None)
        self._draining.pop(row.name, None)
        self.history.add(row.name, phase, why)
        if phase == Phase.GONE:
            self._gone.append(row.name)

    def _forget_gone(self) -> None:
        while len(self._gone) > GONE_KEPT:
            self.cib.forget(self._gone.popleft())

    def _note_confirmations(self, row: IntentRow, waiting: dict[str, str]) -> None:
        if row.phase == Phase.DRAIN:
            return
        confirmed = set(row.by_host()) - set(waiting)
        before = self._confirmed.get(row.name, set())
        for host in sorted(confirmed - before):
            self.history.add(row.name, row.phase, "confirmed", host)
        for host in sorted(before - confirmed):
            self.history.add(row.name, row.phase, f"no longer confirmed: {waiting[host]}", host)
        self._confirmed[row.name] = confirmed

    def _drained(self, row: IntentRow) -> bool:
        if row.phase != Phase.DRAIN:
            return True
        return self._clock() >= self._draining.setdefault(row.name, self._clock()) + self._linger

    def _next_look(self) -> float | None:
        due = [began + self._linger for began in self._draining.values()]
        rows = self.cib.hosts()
        due += [
            agent.sent_at + ASK_AGAIN
            for host, agent in self._agents.items()
            if agent.refuses(rows[host].generation)
        ]
        return max(0.0, min(due) - self._clock()) if due else None

    def _number_desired_states(self) -> None:
        """Give each desired state that changed a number that its host has never heard of."""
        states = self.desired()
        for host, row in self.cib.hosts().items():
            digest = _digest([dump(customization) for customization in states[host]])
            agent = self._agents.get(host)
            newest = agent.newest if agent else 0
            if digest != row.desired or newest > row.generation:
                row.desired = digest
                row.generation = max(row.generation, newest) + 1

    def _number_steering(self) -> None:
        row = self.cib.steering()
        digest = _digest(dump(self.steering().model_copy(update={"generation": 0})))
        if digest != row.desired:
            row.desired = digest
            row.generation += 1

    def _send_desired_states(self) -> None:
        rows = self.cib.hosts()
        due = [h for h, agent in self._agents.items() if self._is_due(agent, rows[h].generation)]
        states = self.desired() if due else {}
        for host in due:
            agent, generation = self._agents[host], rows[host].generation
            agent.sent, agent.sent_at = generation, self._clock()
            agent.digests = frozenset(customization.digest for customization in states[host])
            log.info("host=%s desired generation=%d", host, generation)
            agent.link.send(Desired(generation=generation, customizations=states[host]))

    def _is_due(self, agent: Agent, generation: int) -> bool:
        if agent.sent != generation:
            return True
        return agent.refuses(generation) and self._clock() >= agent.sent_at + ASK_AGAIN


def _digest(value: object) -> str:
    return hashlib.sha256(encode(value)).hexdigest()
