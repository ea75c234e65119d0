"""Plans intents for the network as it is now: what `controller.plan` needs comes from the CIB."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from controller.cib import Cib
from controller.deconflict import check_flows
from controller.errors import Conflict, Refusal
from controller.intent import Intent
from controller.model import Deployment, IntentState
from controller.modules import ModuleLibrary
from controller.phases import OVER
from controller.plan import HostFacts, Plan, Planned, Platform, make_plan
from controller.plan_checks import check_mirrors, check_modules, check_room
from controller.policy import Policy, effective
from wire.match import Transport
from wire.messages import Target


class Planner:
    """See the module's text."""

    def __init__(
        self,
        cib: Cib,
        modules: ModuleLibrary,
        lacking: Callable[[Platform], str | None],
        policy: Callable[[], Policy],
        is_connected: Callable[[str], bool],
    ) -> None:
        self._is_connected = is_connected
        self._cib = cib
        self._modules = modules
        self._lacking = lacking
        self._policy = policy

    def carried_out(self, intent: Intent) -> Intent:
        """Return an intent with what the network's policy asks for beyond it."""
        return effective(self._policy(), intent)

    def plan(self, intent: Intent, uid: uuid.UUID) -> Plan:
        """Return what a new intent makes; raises Refusal where it cannot be applied."""
        others = list(self._planned(but=intent.name))
        plan = self._make(intent, uid, others)
        self._check(plan, others, others)
        self._check_turns(intent, uid, others)
        check_mirrors(plan, self._mirrors(but=intent.name))
        return plan

    def _check_turns(self, intent: Intent, uid: uuid.UUID, others: list[Planned]) -> None:
        """Refuse an intent that could not be rotated to one of its modules as things stand."""
        for name in intent.rotation.modules:
            parameters = intent.rotation.parameters.get(name, {})
            turn = intent.model_copy(update={"module": name, "parameters": parameters})
            try:
                self._check_flows(self._make(turn, uid, others), others)
            except Refusal as refusal:
                raise type(refusal)(f"rotation.modules: {name}: {refusal}") from refusal

    def plan_rotation(self, state: IntentState, intent: Intent, uid: uuid.UUID) -> Plan:
        """Return what takes the place of what an intent has; raises Refusal."""
        others = list(self._planned(but=intent.name))
        own = [item for deployment in state.deployments for item in deployment.planned()]
        plan = self._make(remaining(intent, state), uid, [*others, *own], state)
        self._check(plan, others, [*others, *own])
        return plan

    def plan_again(self, state: IntentState, intent: Intent, uid: uuid.UUID) -> Plan:
        """Return what a running intent would make of the hosts that there are now."""
        everything = list(self._planned(but=""))
        return self._make(remaining(intent, state), uid, everything, state, running=True)

    def without_room(self, state: IntentState, added: Iterable[Planned]) -> dict[str, str]:
        """Return the hosts that these customizations do not get on with, each with the reason."""
        added = list(added)
        if not added:
            return {}
        by_host: dict[str, list[Planned]] = {}
        for item in added:
            by_host.setdefault(item.host, []).append(item)
        others: dict[str, list[Planned]] = {}
        for item in self._planned(but=""):
            if item.host in by_host:
                others.setdefault(item.host, []).append(item)
        refused = {}
        for host, items in by_host.items():
            there = others.get(host, [])
            foreign = [item for item in there if item.intent != state.name]
            try:
                self._check(Plan(tuple(items), ()), foreign, there)
            except Conflict as conflict:
                refused[host] = str(conflict)
        return refused

    def with_priority(self, state: IntentState, priority: int) -> list[Planned]:
        """Return an intent's customizations at another priority; raises Conflict."""
        items = [
            replace(item, priority=priority)
            for deployment in state.deployments
            for item in deployment.planned()
        ]
        self._check_flows(Plan(tuple(items), ()), list(self._planned(but=state.name)))
        return items

    def _check(self, plan: Plan, others: list[Planned], room: list[Planned]) -> None:
        check_room(plan, room)
        self._check_flows(plan, others)

    def _check_flows(self, plan: Plan, others: list[Planned]) -> None:
        addresses = {name: host.addresses for name, host in self._cib.hosts().items()}
        check_flows(plan, others, self._modules.manifest, addresses)

    def _make(
        self,
        intent: Intent,
        uid: uuid.UUID,
        others: Iterable[Planned],
        state: IntentState | None = None,
        *,
        running: bool = False,
    ) -> Plan:
        policy = self._policy()
        if not running:
            check_modules(intent, policy, self._modules.manifest)
        facts = self._facts(others, running)
        for host in state.left_out if state else ():
            facts.pop(host, None)
        up = [one for one in state.deployments if not one.goes_down] if state else []
        takes_part = {host for one in up for host in one.items}
        for name, known in facts.items():
            if name not in takes_part and not self._is_connected(name):
                facts[name] = replace(known, present=False)
        return make_plan(
            intent,
            self._modules.manifest(intent.module),
            facts,
            uid,
            epoch=self._cib.next_epoch(intent.module),
            lacking=self._lacking,
            policy=policy,
            running=running,
        )

    def _planned(self, but: str) -> Iterator[Planned]:
        """Yield the customizations of all intents but one that hosts may still have."""
        for state in self._cib.intents():
            if state.name != but:
                for deployment in state.deployments:
                    yield from (one for one in deployment.planned() if deployment.is_on(one.host))

    def _mirrors(self, but: str) -> int:
        states = self._cib.intents()
        return sum(len(s.mirrors) for s in states if s.name != but and s.phase not in OVER)

    def _facts(self, customizations: Iterable[Planned], running: bool) -> dict[str, HostFacts]:
        """Return what is known of each host that has these customizations already.

        Of a running intent a host counts as having the tap that has its customizations, also
        while it comes up without: that is an error to show, and no wish to be left out.
        """
        settled: dict[str, dict[Transport, Target]] = {}
        for one in customizations:
            settled.setdefault(one.host, {})[one.match.transport] = one.target
        facts = {name: host.facts(settled.get(name)) for name, host in self._cib.hosts().items()}
        for name, taps in settled.items() if running else ():
            missing = set(taps.values()) - set(facts[name].targets)
            if missing:
                targets = (*facts[name].targets, *sorted(missing))
                facts[name] = replace(facts[name], targets=targets)
        return facts


def carried(state: IntentState, deployment: Deployment) -> Intent:
    """Return an intent as a deployment carries it out: with its module and parameters."""
    return state.intent.model_copy(
        update={
            "module": deployment.module,
            "parameters": deployment.parameters,
            "priority": state.priority,
        }
    )


def remaining(intent: Intent, state: IntentState) -> Intent:
    """Return an intent without the endpoints that name a host which was left out."""
    return intent.model_copy(
        update={
            "clients": [one for one in intent.clients if one.host not in state.left_out],
            "servers": [one for one in intent.servers if one.host not in state.left_out],
        }
    )


def as_before(plan: Plan, deployment: Deployment) -> Plan:
    """Return a plan whose streams are those of a deployment that is there already."""
    like = next(deployment.planned(), None)
    if like is None:
        return plan
    items = (
        replace(item, epoch=like.epoch, token=like.token, priority=like.priority)
        for item in plan.customizations
    )
    return replace(plan, customizations=tuple(items))
