"""Joins intents, hosts and switches: who should have what, who has it, and what comes next.

The orchestrator is plain logic over the CIB in memory: it does no I/O of its own, and takes its
clocks and its links as arguments. Whatever happens (an agent connects or reports, an operator
asks, a build ends) is noted, and `settle` is due: it lets deployments go as far as hosts have
confirmed, and numbers the desired states that changed. What `settle` returns is committed in one
transaction; only then, in `committed`, are agents sent anything and callers told. Where the commit
fails, all of it was never so (`restore`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Set
from dataclasses import dataclass

from sqlalchemy.orm import Session

from controller.agents import Agent, Agents, Link
from controller.artifacts import ArtifactStore
from controller.building import BuildOrder
from controller.cib import Cib, Content
from controller.deployer import Deployer
from controller.errors import Unavailable
from controller.fingerprints import fingerprint_of
from controller.history import History
from controller.model import Host, IntentState
from controller.modules import ModuleLibrary
from controller.operations import FORGOTTEN
from controller.phases import DEPLOYED, HostNow, Phase
from controller.plan import Platform
from controller.planner import Planner
from controller.policy import Policy
from controller.switch_link import Steering
from controller.timed import Timed
from wire.messages import ArtifactData, Desired, Hello, Report, dump

__all__ = ["BuildOrder", "Link", "Orchestrator", "Settled"]

log = logging.getLogger(__name__)

ASK_AGAIN = 5.0
"""Seconds after which a host that refuses its desired state is asked again."""


@dataclass(frozen=True)
class Settled:
    """What is to be done next."""

    store: Callable[[Session], None] | None
    """The change to be committed, if there is one."""
    delay: float | None
    """Seconds after which to settle again, whatever happens."""


class Orchestrator(Timed):
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
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`control` is what switches never steer; `changed` is called when `settle` is due.

        `clock` gives seconds that never go backwards, `wall` Unix time; `lacking` says why
        nothing can be compiled for a platform, `policy` gives the network's policy.
        """
        agents = Agents(cib, clock)
        deployer = Deployer(cib, agents, self._note_event, clock, linger)
        planner = Planner(cib, modules, lacking, policy, lambda name: agents.of(name) is not None)
        super().__init__(
            cib,
            agents,
            deployer,
            planner,
            self._note_event,
            clock=clock,
            wall=wall,
            new_uid=new_uid,
        )
        self.modules = modules
        self.history = history
        self._artifacts = artifacts
        self._control = control
        self._tell_changed = changed
        self._events: list[tuple[str, Phase, str, str | None]] = []
        """What happened, and is told once it is committed."""
        self._telling: list[tuple[str, Phase, str, str | None]] = []
        """Of the commit that is under way."""
        self._due: set[str] = set()
        """Hosts that may have to be sent their desired state."""
        self._sending: set[str] = set()
        """Those of the commit that is under way."""
        self._revoking: set[tuple[str, str]] = set()
        """What failed a challenge, of the commit that is under way."""
        self._refusing: set[str] = set()
        """Hosts that may have to be asked again."""
        self._savers: list[asyncio.Future[None]] = []
        self._saving: list[asyncio.Future[None]] = []
        """Who waits for the commit after the next `settle`, and for the one under way."""
        self._is_ahead = False
        """Whether memory has what is not committed yet, and perhaps never will be."""
        self._readers: list[asyncio.Future[None]] = []
        """Who wants to look at what is committed."""
        deployer.look_at_all()

    def _changed(self) -> None:
        self._tell_changed()

    def _note_event(self, intent: str, phase: Phase, text: str, host: str | None) -> None:
        self._events.append((intent, phase, text, host))

    # -- agents

    def connected(self, link: Link, hello: Hello) -> None:
        """Note an agent that has introduced itself; close an older connection of the same host."""
        self._describe(hello)
        self._may_join(hello.host)
        old = self._agents.connected(link, hello)
        self._due.add(hello.host)
        self._deployer.changed_at([hello.host])
        self._deployer.heard_of(hello.host)
        if old is not None:
            old.link.refuse(f"another agent connected as {hello.host!r}")
        self._changed()

    def disconnected(self, host: str, link: Link) -> None:
        """Note that a connection has ended."""
        if self._agents.disconnected(host, link):
            self._deployer.heard_of(host)
            self._changed()

    def reported(self, host: str, link: Link, report: Report) -> None:
        """Note what an agent says is so."""
        if not self._agents.reported(host, link, report):
            return
        known = self.cib.host(host)
        agent = self._agents.of(host)
        if known is None or agent is None:
            return
        if agent.newest > known.generation:
            self._deployer.changed_at([host])
        if report.refused is not None:
            self._refusing.add(host)
        self._deployer.heard_of(host)
        self._changed()

    def artifact_for(self, host: str, digest: str) -> ArtifactData | None:
        """Return an artifact that the host's newest desired state names, else None."""
        agent = self._agents.of(host)
        return self._artifacts.message(digest) if agent and digest in agent.digests else None

    def now(self, host: str) -> HostNow:
        """Return what is known of a host at this moment."""
        return self._agents.now(host)

    def connected_hosts(self) -> Set[str]:
        """Return the hosts whose agents are connected."""
        return self._agents.hosts()

    def waiting(self, state: IntentState) -> dict[str, str]:
        """Return the hosts that an intent waits for, each with the reason."""
        return self._agents.waiting(state)

    def _describe(self, hello: Hello) -> None:
        """Take over what an agent says of its host."""
        host = self.cib.host(hello.host)
        is_new = host is None
        host = host or self.cib.add_host(hello.host)
        before = host.facts()
        if host.describe(hello) or is_new:
            self.cib.note_host(host)
        if host.facts() != before or is_new:
            self._changed_at(hello.host)
        if is_new:
            self._welcome_back(hello.host)
        for deployment in host.deployments.values():
            self._rebuild(deployment, host)

    def _welcome_back(self, host: str) -> None:
        """Let a host that was forgotten take part again in what names it."""
        for state in self.cib.intents():
            if state.left_out.get(host) == FORGOTTEN:
                del state.left_out[host]
                self.cib.note_intent(state)
                self._follow.add(state.name)

    # -- what comes next

    def settle(self) -> Settled:
        """Go as far as possible in memory; return what is to be committed."""
        self._is_ahead = True
        self._look()
        self._deployer.settle()
        while self._deployer.refused:
            self._leave_behind()
            self._deployer.settle()
        if self._deployer.steered:
            self._deployer.steered = False
            desired = self.steering().model_copy(update={"generation": 0})
            self.cib.number_steering(fingerprint_of(dump(desired)))
        self._due |= self._deployer.numbered
        self._deployer.numbered.clear()
        self._telling += self._events
        self._events = []
        self._sending |= self._due
        self._due = set()
        self._revoking = set(self._unproven)
        self._saving, self._savers = self._savers, []
        store = self.cib.take_changes()
        self._is_ahead = store is not None
        return Settled(store, self._next_look())

    def _leave_behind(self) -> None:
        """Go on without the hosts that refuse what they joined."""
        refused, self._deployer.refused = self._deployer.refused, {}
        for name, hosts in refused.items():
            if (state := self.cib.intent(name)) is not None:
                self._leave_out(state, hosts)

    def committed(self) -> None:
        """Send, and tell, what was settled: it is in the database."""
        for event in self._telling:
            self.history.add(*event)
        self._telling.clear()
        for failed in self._revoking:
            self._unproven.pop(failed, None)
        sending, self._sending = self._sending, set()
        sent = 0
        for name in sending:
            agent, host = self._agents.of(name), self.cib.host(name)
            if agent is not None and host is not None and self._is_due(agent, host):
                self._send(agent, host)
                sent += 1
        if sent:
            log.info("desired states sent: %d", sent)
        _resolve(self._saving)
        self._saving = []
        self._let_read()

    def failed(self, reason: str) -> None:
        """Tell everyone who waits that nothing can be changed or read now: `restore` comes."""
        self._refuse_savers(reason)
        _refuse(self._readers, reason)
        self._readers = []

    def _refuse_savers(self, reason: str) -> None:
        _refuse([*self._saving, *self._savers], reason)
        self._saving, self._savers = [], []

    def restore(self, content: Content, reason: str) -> None:
        """Go on from what the database holds; what agents said counts again."""
        self._refuse_savers(reason)
        self.cib.take(content)
        self._events.clear()
        self._telling.clear()
        self._sending.clear()
        self._let_read()
        self._deployer.look_at_all()
        self._follow_all()
        for agent in self._agents:
            self._describe(agent.hello)
            self._due.add(agent.hello.host)
        for failed, why in self._unproven.items():
            self._revoke_unproven(*failed, why)
        self._changed()

    async def saved(self) -> None:
        """Wait until what was changed is committed; raises Unavailable where it is not."""
        saver: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._savers.append(saver)
        self._changed()
        await saver

    async def readable(self) -> None:
        """Wait for a commit that is under way: what is seen before may never have been so.

        Raises Unavailable where that failed, and what is committed cannot be read either.
        """
        if self._is_ahead:
            reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader

    def _let_read(self) -> None:
        self._is_ahead = False
        _resolve(self._readers)
        self._readers = []

    def steering(self) -> Steering:
        """Return what the switches should have."""
        return Steering(
            generation=self.cib.steering().generation,
            control=self._control,
            mirrors=[
                mirror
                for state in self.cib.intents()
                if any(one.phase in DEPLOYED for one in state.deployments)
                for mirror in state.mirrors
            ],
        )

    def _next_look(self) -> float | None:
        due = [self._deployer.next_look()]
        for name in list(self._refusing):
            agent, host = self._agents.of(name), self.cib.host(name)
            if agent is None or host is None or not agent.refuses(host.generation):
                self._refusing.discard(name)
                continue
            due.append(agent.sent_at + ASK_AGAIN)
            self._due.add(name)
        due.append(self._next_time())
        times = [one for one in due if one is not None]
        return max(0.0, min(times) - self._clock()) if times else None

    def _is_due(self, agent: Agent, host: Host) -> bool:
        if agent.sent != host.generation:
            return True
        return agent.refuses(host.generation) and self._clock() >= agent.sent_at + ASK_AGAIN

    def _send(self, agent: Agent, host: Host) -> None:
        agent.sent, agent.sent_at = host.generation, self._clock()
        agent.digests = frozenset(one.digest for one in host.customizations)
        log.debug("host=%s desired generation=%d", host.name, host.generation)
        agent.link.send(
            Desired(generation=host.generation, customizations=list(host.customizations))
        )


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _refuse(futures: list[asyncio.Future[None]], reason: str) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(Unavailable(reason))
