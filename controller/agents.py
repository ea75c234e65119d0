"""The agents that are connected, and what they said on these connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from controller.cib import Cib
from controller.model import IntentState
from controller.phases import OVER, HostNow, Phase, obstacle
from wire.messages import Hello, NcoMessage, Report, Status


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
    hello: Hello
    newest: int
    """The highest generation it spoke of; above ours where our own memory was lost."""
    report: Report | None = None
    statuses: Mapping[str, Status] = field(default_factory=dict)
    """Those of the report, by customization."""
    sent: int | None = None
    """The last generation sent on this connection."""
    sent_at: float = 0.0
    """When, by the orchestrator's clock."""
    digests: frozenset[str] = frozenset()
    """Artifacts that it was sent the names of last."""

    def told(self, report: Report) -> None:
        """Take note of a report."""
        self.report = report
        self.statuses = {status.id: status for status in report.customizations}
        self.newest = max(self.newest, report.generation, report.refused or 0)

    def refuses(self, generation: int) -> bool:
        """Whether it said that it does not take this generation."""
        return self.report is not None and self.report.refused == generation


class Agents:
    """All connected agents, by host."""

    def __init__(self, cib: Cib, clock: Callable[[], float]) -> None:
        self._cib = cib
        self._clock = clock
        self._began = clock()
        self._agents: dict[str, Agent] = {}
        self._left: dict[str, float] = {}
        """When agents left that are not back."""

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def hosts(self) -> Set[str]:
        """Return the hosts whose agents are connected."""
        return self._agents.keys()

    def of(self, host: str) -> Agent | None:
        """Return the agent of a host, if it is connected."""
        return self._agents.get(host)

    def connected(self, link: Link, hello: Hello) -> Agent | None:
        """Enter an agent; return the older connection of the same host, if there was one."""
        old = self._agents.get(hello.host)
        self._agents[hello.host] = Agent(link, hello, newest=hello.generation)
        self._left.pop(hello.host, None)
        return old

    def disconnected(self, host: str, link: Link) -> bool:
        """Take an agent out; False where a newer connection has taken its place."""
        agent = self._agents.get(host)
        if agent is None or agent.link is not link:
            return False
        del self._agents[host]
        self._left[host] = self._clock()
        return True

    def away_since(self, host: str) -> float | None:
        """Return since when a host has no agent, as far as is known; None where it has one."""
        return None if host in self._agents else self._left.get(host, self._began)

    def reported(self, host: str, link: Link, report: Report) -> bool:
        """Take note of a report; False where a newer connection has taken its place."""
        agent = self._agents.get(host)
        if agent is None or agent.link is not link:
            return False
        agent.told(report)
        return True

    def now(self, host: str) -> HostNow:
        """Return what is known of a host at this moment."""
        agent, known = self._agents.get(host), self._cib.host(host)
        generation = known.generation if known else 0
        if agent is None:
            return HostNow(generation=generation, unseen=host not in self._left)
        return HostNow(True, generation, agent.report, agent.statuses)

    def waiting(self, state: IntentState) -> dict[str, str]:
        """Return the hosts that an intent waits for, each with the reason."""
        reasons: dict[str, str] = {}
        for deployment in state.deployments:
            if deployment.phase in OVER or deployment.phase == Phase.BUILDING:
                continue
            for host in sorted(deployment.unconfirmed):
                reason = obstacle(deployment.items[host], deployment.phase, self.now(host))
                if reason is not None:
                    reasons.setdefault(host, reason)
        return reasons

    def newest(self, host: str) -> int:
        """Return the highest generation that a host's agent spoke of."""
        agent = self._agents.get(host)
        return agent.newest if agent else 0
