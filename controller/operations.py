"""What operators ask for, and what the NCO asks of itself: deploy, rotate, leave out, take away.

Each of these changes the CIB in memory or raises Refusal and changes nothing. It counts once it
is committed, which `Orchestrator.saved` waits for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from controller.agents import Agents
from controller.cib import Cib
from controller.deployer import Deployer, Note
from controller.errors import NAMED, Conflict
from controller.following import Following
from controller.intent import Intent
from controller.membership import current, new_deployment, running
from controller.model import Deployment, Host, IntentState
from controller.names import unknown_host, unknown_intent
from controller.phases import GOING_UP, OVER, Phase
from controller.plan import Plan
from controller.planner import Planner, carried
from controller.rotation import in_transition, rotating

FORGOTTEN = "it was forgotten"


class Operations(Following):
    """See the module's text; the base of the orchestrator, which adds agents and time."""

    def __init__(
        self,
        cib: Cib,
        agents: Agents,
        deployer: Deployer,
        planner: Planner,
        note: Note,
        *,
        wall: Callable[[], float],
        new_uid: Callable[[], uuid.UUID],
    ) -> None:
        super().__init__(cib, deployer, planner, note, new_uid)
        self._agents = agents
        self._wall = wall
        self._unproven: dict[tuple[str, str], str] = {}
        """Customizations, by host, that failed a challenge, until that is committed."""

    # -- intents

    def plan(self, intent: Intent) -> Plan:
        """Return what `intent` would make; raises Refusal where it cannot be applied."""
        return self.planner.plan(intent, self._new_uid())

    def apply(self, intent: Intent) -> bool:
        """Begin to deploy an intent; False where it is there already; raises Refusal."""
        state = self.cib.intent(intent.name)
        if state is not None and state.phase not in OVER:
            if state.revoked or state.phase not in (*GOING_UP, Phase.BUILDING, Phase.INACTIVE):
                raise Conflict(
                    f"intent {intent.name!r} is being revoked: wait until it is gone"
                    + self._why(state)
                )
            if state.intent != intent:
                raise Conflict(
                    f"intent {intent.name!r} exists and asks for something else: "
                    f"`nco revoke {intent.name}` first, or choose another name"
                )
            return False
        uid = self._new_uid()
        plan = self.planner.plan(intent, uid)
        fresh = IntentState(
            name=intent.name,
            intent=intent,
            mirrors=list(plan.mirrors),
            priority=intent.priority,
            rotated_at=self._wall(),
        )
        first = new_deployment(fresh, uid, "first")
        first.fill(plan.customizations)
        self.cib.add_intent(fresh)
        self.cib.add_deployment(fresh, first)
        self._deployer.began(first)
        self._note(intent.name, Phase.BUILDING, f"module {intent.module}", None)
        self._changed()
        return True

    def revoke(self, name: str, why: str = "revoked") -> None:
        """Begin to take an intent away; raises NotFound."""
        state = self._known(name)
        state.revoked, state.error, state.unfollowed = True, None, None
        self.cib.note_intent(state)
        for deployment in list(state.deployments):
            deployment.error = None
            if deployment.phase == Phase.FAILED:
                self._deployer.enter(state, deployment, Phase.GONE, why)
            else:
                self._deployer.take_down(state, deployment, why)
        self._changed()

    def _why(self, state: IntentState) -> str:
        """Say whom an intent waits for."""
        waiting = [f"{host}: {why}" for host, why in self._agents.waiting(state).items()]
        return f"; it waits for {'; '.join(waiting[:NAMED])}" if waiting else ""

    def _known(self, name: str) -> IntentState:
        state = self.cib.intent(name)
        if state is None or state.phase == Phase.GONE:
            raise unknown_intent(self.cib, name)
        return state

    def _steady(self, name: str, what: str) -> IntentState:
        """Return an intent that is active and does not move; raises Refusal."""
        state = self._known(name)
        if state.revoked or in_transition(state) or state.phase != Phase.ACTIVE:
            where = "being rotated" if rotating(state) else f"in phase {state.phase}"
            raise Conflict(
                f"intent {name!r} is {where}, and can be {what} once it is active and nothing of "
                f"it is on its way up or down: see `nco show {name}`"
            )
        return state

    # -- rotation

    def rotate(
        self,
        name: str,
        module: str | None = None,
        parameters: Mapping[str, int] | None = None,
    ) -> None:
        """Begin to replace what an intent has by another module, parameters or keys.

        What is left out stays as it is; keys and streams' tokens are always new. Raises Refusal.
        """
        state = self._steady(name, "rotated")
        now = running(state, current(state))[0]
        module = module or now.module
        uid = self._new_uid()
        rotation = new_deployment(state, uid, "rotation", now)
        rotation.succession = state.succession + 1
        rotation.parameters = {**_parameters(state, now, module), **(parameters or {})}
        rotation.module = module
        plan = self.planner.plan_rotation(state, carried(state, rotation), uid)
        rotation.fill(plan.customizations)
        state.succession += 1
        state.rotated_at = self._wall()
        self.cib.note_intent(state)
        self.cib.add_deployment(state, rotation)
        self._deployer.announce(rotation, f"takes the place of {now.module}")
        self._changed()

    def cancel_rotation(self, name: str) -> None:
        """Take back a rotation that is not done; raises Refusal."""
        state = self._known(name)
        deployment = rotating(state)
        if deployment is None:
            raise Conflict(f"intent {name!r} is not being rotated, or already is past that")
        self._deployer.take_down(state, deployment, "cancelled")
        self._changed()

    # -- standing

    def deprecate(self, name: str, on: bool = True) -> None:
        """Have new sockets do without an intent, or not; those that have it keep it."""
        state = self._known(name)
        if state.deprecated != on:
            state.deprecated = on
            self._restated(state, "deprecated: no new sockets" if on else "no longer deprecated")

    def activate(self, name: str, on: bool = True) -> None:
        """Have an intent act, or stay attached and be passed over; raises Refusal.

        It goes there by direction: senders stop before receivers, and begin after them.
        """
        state = self._known(name)
        if state.active == on:
            return
        if not on:
            state = self._steady(name, "deactivated")
        state.active = on
        for deployment in state.deployments:
            if on:
                self._deployer.began(deployment)
            elif not deployment.goes_down:
                self._deployer.pause(state, deployment, "deactivated")
        self.cib.note_intent(state)
        self._changed()

    def prioritize(self, name: str, priority: int) -> None:
        """Change an intent's place in the order; raises Refusal where that is another's."""
        state = self._known(name)
        moved = {item.id: item for item in self.planner.with_priority(state, priority)}
        state.priority = priority
        for deployment in state.deployments:
            for items in deployment.items.values():
                for position, item in enumerate(items):
                    self.cib.set_item(deployment, position, moved.get(item.id, item))
        self._restated(state, f"priority {priority}")

    def _restated(self, state: IntentState, text: str) -> None:
        self.cib.note_intent(state)
        self._note(state.name, state.phase, text, None)
        for deployment in state.deployments:
            self._deployer.changed_at(deployment.items)
        self._changed()

    # -- hosts

    def label_host(self, name: str, add: set[str], remove: set[str]) -> Host:
        """Change what a host is called; raises NotFound."""
        host = self._host(name)
        labels = (set(host.labels) - remove) | add
        host.labels = tuple(sorted(labels))
        self.cib.note_host(host)
        self._changed_at(name)
        self._changed()
        return host

    def forget_host(self, name: str) -> None:
        """Take a host that never returns out of everything; raises Refusal."""
        host = self._host(name)
        if self._agents.of(name) is not None:
            raise Conflict(
                f"the agent of host {name!r} is connected: stop it first, or revoke the host; what "
                "is forgotten while it runs would come back"
            )
        for state in self.cib.intents():
            ends = (*state.intent.clients, *state.intent.servers)
            if any(end.host == name for end in ends):
                state.left_out[name] = FORGOTTEN
                self.cib.note_intent(state)
            if any(name in one.items for one in state.deployments):
                self._note(state.name, state.phase, "forgotten", name)
            self._membership.forget(state, name)
        self.cib.drop_host(host)
        for state in self.cib.intents():
            self.follow(state)
        self._changed()

    def leave_out(self, name: str, host: str, reason: str) -> None:
        """Let an intent do without a host: it is revoked there, and at who would send to it."""
        self._leave_out(self._known(name), {host: reason})
        self._changed()

    def _leave_out(self, state: IntentState, hosts: Mapping[str, str]) -> None:
        """Let an intent do without hosts, each with the reason."""
        hosts = {host: why for host, why in hosts.items() if host not in state.left_out}
        if state.revoked or not hosts:
            return
        state.left_out.update(hosts)
        for host, reason in hosts.items():
            state.error = f"host {host} is left out: {reason}"
            self._note(state.name, state.phase, f"left out: {reason}", host)
        self.cib.note_intent(state)
        self.follow(state)

    def admit(self, name: str, host: str) -> None:
        """Let a host take part again that was left out; raises Refusal."""
        state = self._known(name)
        if state.left_out.pop(host, None) is None:
            raise Conflict(f"intent {name!r} does not leave out host {host!r}")
        if not state.left_out:
            state.error = None
        self.cib.note_intent(state)
        self._note(name, state.phase, "is let in again", host)
        self._follow.add(name)
        self._changed()

    def challenge_failed(self, host: str, customization: str, reason: str) -> None:
        """Revoke a customization on both ends, as its host could not prove that it runs.

        Nobody says so again where it cannot be committed, so it is kept until it is.
        """
        self._unproven[host, customization] = reason
        self._revoke_unproven(host, customization, reason)

    def _revoke_unproven(self, host: str, customization: str, reason: str) -> None:
        known = self.cib.host(host)
        for deployment in list(known.deployments.values()) if known else []:
            if any(item.id == customization for item in deployment.items.get(host, ())):
                self.leave_out(deployment.intent, host, f"challenge failed: {reason}")
                return

    def intent_of(self, host: str, customization: str) -> str | None:
        """Return the intent of a customization that is deployed on a host."""
        known = self.cib.host(host)
        for deployment in known.deployments.values() if known else ():
            for item in deployment.items.get(host, ()):
                if item.id == customization:
                    return deployment.intent
        return None

    def _host(self, name: str) -> Host:
        host = self.cib.host(name)
        if host is None:
            raise unknown_host(self.cib, name)
        return host


def _parameters(state: IntentState, now: Deployment, module: str) -> Mapping[str, int]:
    """Return the parameters of a module where a rotation does not say others."""
    if module == now.module:
        return now.parameters
    if module == state.intent.module:
        return state.intent.parameters
    return state.intent.rotation.parameters.get(module, {})
