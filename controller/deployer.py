"""Lets deployments go as far as hosts have confirmed, and numbers what hosts should have.

Pure logic over the CIB in memory, and incremental: it looks at the hosts of which something is
known anew and at the deployments whose standing changed, and at nothing else, so a report costs
what its host has, however many hosts there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from controller.cib import Cib
from controller.confirmations import Confirmations
from controller.fingerprints import fingerprint
from controller.model import Deployment, Host, IntentState
from controller.phases import (
    ARRIVED,
    FRAGILE,
    NORMAL,
    ONWARD,
    OVER,
    RETREAT,
    HostNow,
    Phase,
    Standing,
    alike,
    checked,
    fault,
    is_asked,
    obstacle,
    wanted,
)
from controller.rotation import CUT_OFF_AFTER, held_back, slots, superseded
from wire.messages import Customization

NAMED = 64
"""Hosts of a deployment up to which each one's confirmation is an event of its own."""


class Hosts(Protocol):
    """What is known of hosts' agents."""

    def now(self, host: str) -> HostNow:
        """Return what is known of a host at this moment."""

    def newest(self, host: str) -> int:
        """Return the highest generation that a host's agent spoke of."""


Note = Callable[[str, Phase, str, str | None], None]
"""Is told of an event: intent, phase, text, host."""


class Deployer:
    """See the module's text."""

    def __init__(
        self, cib: Cib, hosts: Hosts, note: Note, clock: Callable[[], float], linger: float
    ) -> None:
        self.numbered: set[str] = set()
        """Hosts whose desired state has a new number."""
        self.steered = True
        """Whether what the switches should have may have changed."""
        self._cib = cib
        self._hosts = hosts
        self._note = note
        self._clock = clock
        self._linger = linger
        self._stale: set[str] = set()
        """Hosts whose desired state may have changed."""
        self._heard: set[str] = set()
        """Hosts of which something is known anew."""
        self._moved: dict[str, Deployment] = {}
        """Deployments that may be able to take a step."""
        self._faults: dict[str, dict[str, str]] = {}
        """Which hosts a deployment on its way up fails on, and why."""
        self.refused: dict[str, dict[str, str]] = {}
        """Hosts that joined an intent and refuse, each with the reason: it is to leave them out."""
        self._told: dict[str, float] = {}
        """When it was last told how many hosts of a large deployment have confirmed."""
        self._since: dict[str, float] = {}
        """When deployments entered their phases; counted anew by a service that was restarted."""
        self._draining: dict[str, Deployment] = {}
        self._confirmations = Confirmations()

    def look_at_all(self) -> None:
        """Look at everything: the CIB was loaded."""
        self._stale = set(self._cib.hosts())
        self._heard = set(self._stale)
        self._moved, self._faults, self._draining = {}, {}, {}
        self.refused = {}
        self.steered = True
        for state in self._cib.intents():
            for deployment in state.deployments:
                self._moved[deployment.uid] = deployment
                if deployment.phase not in ONWARD:
                    self._confirmations.begin_untold(deployment.uid, deployment.items)
                if deployment.phase == Phase.DRAIN:
                    self._draining[deployment.uid] = deployment

    def heard_of(self, host: str) -> None:
        """Note that something is known anew of a host."""
        self._heard.add(host)

    def changed_at(self, hosts: Iterable[str]) -> None:
        """Note that what these hosts should have may have changed."""
        self._stale.update(hosts)

    def began(self, deployment: Deployment) -> None:
        """Note a deployment that is new, or whose builds are done."""
        self._moved[deployment.uid] = deployment
        self._since.setdefault(deployment.uid, self._clock())

    def announce(self, deployment: Deployment, text: str) -> None:
        """Note a deployment that begins elsewhere than at its first phase."""
        self._note(deployment.intent, deployment.phase, self._in_words(deployment, text), None)
        self.steered = True
        self._stale.update(deployment.items)
        self._heard.update(deployment.items)
        self.began(deployment)

    def vanish(self, state: IntentState, deployment: Deployment) -> None:
        """Take a deployment out that has no hosts any more; those that it held back go on."""
        for kept in (self._draining, self._moved, self._since):
            kept.pop(deployment.uid, None)
        self._confirmations.forget(deployment.uid)
        self.steered = True
        if state.deployments != [deployment]:
            self._cib.drop_deployment(state, deployment)
            self._moved.update({one.uid: one for one in state.deployments})
            return
        self._note(state.name, Phase.GONE, "it has no hosts any more", None)
        deployment.phase = Phase.GONE
        self._cib.forget_deployment(deployment)
        self._cib.intent_is_gone(state)

    def since(self, deployment: Deployment) -> float:
        """Return when a deployment entered its phase, by the clock."""
        return self._since.setdefault(deployment.uid, self._clock())

    # -- up and down

    def settle(self) -> None:
        """Go as far as possible."""
        for deployment in self._draining.values():
            if self._drained(deployment):
                self._moved[deployment.uid] = deployment
        while self._stale or self._heard or self._moved:
            self._number()
            self._listen()
            self._step()

    def next_look(self) -> float | None:
        """Return when, by the clock, time alone will change something."""
        now = self._clock()
        ends = [self.since(one) + self._linger for one in self._draining.values()]
        for name in {one.intent for one in self._draining.values()}:
            state = self._cib.intent(name)
            for one in state.deployments if state is not None and state.left_out else ():
                if one.phase == Phase.STOP_SEND:
                    ends.append(self.since(one) + CUT_OFF_AFTER)
        return min((end for end in ends if end > now), default=None)

    def fail(self, state: IntentState, deployment: Deployment, reason: str) -> None:
        """Let a deployment fail that is on its way up."""
        deployment.error = reason
        state.error = reason if deployment.kind != "rotation" else f"rotation failed: {reason}"
        self._cib.note_intent(state)
        self.take_down(state, deployment, reason)

    def take_down(self, state: IntentState, deployment: Deployment, why: str) -> None:
        """Begin to take a deployment away, if it is not on its way already."""
        deployment.ends = True
        self._cib.note_deployment(deployment)
        if deployment.phase in RETREAT and deployment.phase != Phase.FAILED:
            down = RETREAT[deployment.phase]
            failed_early = down == Phase.GONE and deployment.error is not None
            self.enter(state, deployment, Phase.FAILED if failed_early else down, why)

    def pause(self, state: IntentState, deployment: Deployment, why: str) -> None:
        """Begin to take a deployment down as far as it stays attached."""
        if deployment.phase in (Phase.SEND, Phase.ACTIVE):
            self.enter(state, deployment, Phase.STOP_SEND, why)

    def enter(self, state: IntentState, deployment: Deployment, phase: Phase, why: str) -> None:
        """Let a deployment enter a phase."""
        places, before = slots(state.deployments), deployment.phase
        deployment.phase = checked(before, phase)
        self._since[deployment.uid] = self._clock()
        self._faults.pop(deployment.uid, None)
        self._draining.pop(deployment.uid, None)
        self._confirmations.forget(deployment.uid)
        if phase == Phase.DRAIN:
            self._draining[deployment.uid] = deployment
        if phase == Phase.ACTIVE:
            deployment.proven = True
            deployment.unconfirmed.clear()  # `send` asked the same of everybody
        else:
            deployment.ask()
            self._heard.update(deployment.items)
        self.steered = True
        self._moved.update({one.uid: one for one in state.deployments})
        if not alike(before, phase):
            self._stale.update(deployment.items)
        self._cib.note_deployment(deployment)
        self._note(state.name, phase, self._in_words(deployment, why), None)
        self._arrive(state, deployment)
        self._reorder(state, places)

    def _arrive(self, state: IntentState, deployment: Deployment) -> None:
        """Do what belongs to having entered a phase."""
        if deployment.phase == Phase.ACTIVE:
            for older in superseded(state, deployment):
                self.take_down(state, older, f"{deployment.module} has taken its place")
            if deployment.kind == "rotation" and state.error is not None:
                state.error = None
                self._cib.note_intent(state)
        if deployment.phase in OVER:
            self._end(state, deployment)

    def _end(self, state: IntentState, deployment: Deployment) -> None:
        self._moved.pop(deployment.uid, None)
        self._since.pop(deployment.uid, None)
        self._told.pop(deployment.uid, None)
        if state.deployments != [deployment]:
            self._cib.drop_deployment(state, deployment)
        elif deployment.phase == Phase.FAILED:
            self._cib.leave_hosts(deployment, deployment.items)
        else:
            self._cib.forget_deployment(deployment)
            self._cib.intent_is_gone(state)

    def _reorder(self, state: IntentState, before: dict[str, int]) -> None:
        """Have hosts told of the new order of an intent's deployments."""
        after = slots(state.deployments)
        for other in state.deployments:
            if before.get(other.uid) != after.get(other.uid):
                self._stale.update(other.items)

    def _in_words(self, deployment: Deployment, text: str) -> str:
        if deployment.kind == "first":
            return text
        return f"{deployment.kind} {deployment.number}, {deployment.module}: {text}"

    # -- what hosts say

    def _listen(self) -> None:
        heard, self._heard = self._heard, set()
        confirmed: dict[str, Deployment] = {}
        for name in sorted(heard):
            host = self._cib.host(name)
            if host is None or not host.deployments:
                continue
            now = self._hosts.now(name)
            for deployment in host.deployments.values():
                if self._hear(deployment, name, now):
                    confirmed[deployment.uid] = deployment
        for uid, deployment in confirmed.items():
            if deployment.unconfirmed and self._clock() < self._told.get(uid, -1.0) + 1.0:
                continue
            self._told[uid] = self._clock()
            done = len(deployment.items) - len(deployment.unconfirmed)
            text = f"confirmed by {done} of {len(deployment.items)} hosts"
            self._note(deployment.intent, deployment.phase, self._in_words(deployment, text), None)

    def _hear(self, deployment: Deployment, host: str, now: HostNow) -> bool:
        """Take note of what a host says of a deployment; whether its confirmation is to be told."""
        phase, items = deployment.phase, deployment.items[host]
        fragile = phase in FRAGILE and not deployment.proven
        if fragile and (reason := fault(items, phase, now)) is not None:
            self._faults.setdefault(deployment.uid, {})[host] = reason
            self._moved[deployment.uid] = deployment
            return False
        if phase in (Phase.BUILDING, Phase.DRAIN) or phase in OVER or not is_asked(items, phase):
            return False
        if now.connected and not now.answered and host in deployment.unconfirmed:
            return False  # nothing new: it is still to answer
        if phase == Phase.REMOVE and host not in deployment.unconfirmed:
            return False  # what was taken away is gone, wherever the host is now
        missing = obstacle(items, phase, now)
        did, does = host not in deployment.unconfirmed, missing is None
        if does and not did:
            deployment.unconfirmed.discard(host)
            if not deployment.unconfirmed:
                self._moved[deployment.uid] = deployment
        elif not does:
            deployment.unconfirmed.add(host)
        if not self._confirmations.is_news(deployment.uid, host, now, was=did, is_=does):
            return False
        text = "confirmed" if does else f"no longer confirmed: {missing}"
        return self._tell(deployment, text, host)

    def _tell(self, deployment: Deployment, text: str, host: str) -> bool:
        """Note it of a host, or return True where all are told of together."""
        if len(deployment.items) > NAMED:
            return True
        self._note(deployment.intent, deployment.phase, self._in_words(deployment, text), host)
        return False

    # -- what comes next

    def _step(self) -> None:
        moved, self._moved = self._moved, {}
        for deployment in moved.values():
            state = self._cib.intent(deployment.intent)
            if state is not None and deployment in state.deployments:
                self._advance(state, deployment)

    def _advance(self, state: IntentState, deployment: Deployment) -> None:
        phase = deployment.phase
        failed = self._faults.pop(deployment.uid, None)
        if failed is not None and phase in FRAGILE:
            self._fail_on(state, deployment, failed)
        elif phase == Phase.BUILDING and not deployment.unbuilt:
            self.enter(state, deployment, Phase.RECEIVE, "every artifact is built")
        elif phase == Phase.INACTIVE and state.active and not deployment.unconfirmed:
            self.enter(state, deployment, Phase.RECEIVE, ARRIVED[Phase.RECEIVE])
        elif phase in ONWARD and self._is_done(state, deployment):
            self._go_on(state, deployment)

    def _fail_on(
        self, state: IntentState, deployment: Deployment, hosts: Mapping[str, str]
    ) -> None:
        """Let a deployment fail on hosts; of those that joined, only these stay away."""
        if deployment.kind == "joined" and not hosts.keys() & state.left_out.keys():
            self.refused.setdefault(state.name, {}).update(hosts)
            return
        host, reason = next(iter(hosts.items()))
        self.fail(state, deployment, f"host {host}: {reason}")

    def _is_done(self, state: IntentState, deployment: Deployment) -> bool:
        if held_back(state, deployment, self._is_given_up):
            return False
        if deployment.phase != Phase.DRAIN:
            return not deployment.unconfirmed
        return all(
            self._drained(one)
            for one in state.deployments
            if one.phase == Phase.DRAIN and one.succession == deployment.succession
        )

    def _is_given_up(self, deployment: Deployment, host: str) -> bool:
        """Whether nobody waits any more for a host to stop: it is left out, and had its time.

        It gets that as it may be well, and only slow: what it sends meanwhile is understood.
        """
        state = self._cib.intent(deployment.intent)
        left_out = state is not None and host in state.left_out
        return left_out and self._clock() >= self.since(deployment) + CUT_OFF_AFTER

    def _drained(self, deployment: Deployment) -> bool:
        return self._clock() >= self.since(deployment) + self._linger

    def _go_on(self, state: IntentState, deployment: Deployment) -> None:
        onward = ONWARD[deployment.phase]
        if deployment.phase == Phase.DRAIN and not deployment.ends:
            onward = Phase.INACTIVE
        why = ARRIVED[onward]
        error = deployment.error
        if state.deployments == [deployment] and not state.revoked:
            error = error or state.error
        if onward == Phase.GONE and error is not None:
            onward, why = Phase.FAILED, error
        self.enter(state, deployment, onward, why)

    # -- what hosts should have

    def _desired(self, host: Host, standings: Mapping[str, Standing]) -> list[Customization]:
        """Return what a host should have: a function of the phases of what is deployed there."""
        before = {one.id: one for one in host.customizations}
        found = []
        for uid, deployment in host.deployments.items():
            standing = standings.get(uid, NORMAL)
            for item in deployment.items.get(host.name, ()):
                one = wanted(item, deployment.phase, standing, before.get(item.id))
                found += [one] if one is not None else []
        return found

    def _number(self) -> None:
        """Give each desired state that changed a number that its host has never heard of."""
        stale, self._stale = self._stale, set()
        hosts = [host for host in map(self._cib.host, stale) if host is not None]
        standings = self._standings(one.intent for h in hosts for one in h.deployments.values())
        for host in hosts:
            self._number_one(host, standings)

    def _standings(self, intents: Iterable[str]) -> dict[str, Standing]:
        """Return how the deployments of these intents stand in their orders."""
        found = {}
        for name in set(intents):
            state = self._cib.intent(name)
            if state is not None:
                places = slots(state.deployments)
                found.update({u: Standing(slot, state.deprecated) for u, slot in places.items()})
        return found

    def _number_one(self, host: Host, standings: Mapping[str, Standing]) -> None:
        host.customizations = self._desired(host, standings)
        digest = fingerprint(host.customizations)
        newest = self._hosts.newest(host.name)
        if digest != host.desired or newest > host.generation:
            host.desired = digest
            host.generation = max(host.generation, newest) + 1
            self._cib.note_number(host)
            self.numbered.add(host.name)
            self._heard.add(host.name)
