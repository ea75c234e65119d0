"""Who belongs to an intent is looked at again when hosts, labels or the policy have changed.

A new plan of a running intent is compared with what it has; `controller.membership` lets come and
go what differs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

from controller.cib import Cib
from controller.deconflict import overlap
from controller.deployer import Deployer, Note
from controller.errors import Refusal
from controller.membership import Membership, current, running
from controller.model import Deployment, IntentState
from controller.phases import Phase
from controller.plan import Planned
from controller.plan_checks import changes
from controller.planner import Planner, as_before, carried, remaining
from controller.rotation import in_transition
from wire.match import Match


class Following:
    """See the module's text; the base of what operators ask for."""

    def __init__(
        self,
        cib: Cib,
        deployer: Deployer,
        planner: Planner,
        note: Note,
        new_uid: Callable[[], uuid.UUID],
    ) -> None:
        self.cib = cib
        self.planner = planner
        self._deployer = deployer
        self._note = note
        self._membership = Membership(cib, deployer)
        self._new_uid = new_uid
        self._follow: set[str] = set()
        """Intents whose members are to be looked at again."""
        self._follow_all()

    def _changed(self) -> None:
        """Have what was changed settled; the orchestrator says how."""

    def policy_changed(self) -> None:
        """Note that the network's policy may let other hosts take part."""
        self._follow_all()
        self._changed()

    def _follow_all(self) -> None:
        """Have all members looked at: of a service that ended nobody knows what it had seen."""
        self._follow.update(state.name for state in self.cib.intents())

    def _changed_at(self, host: str) -> None:
        """Note that a host is called, or reached, otherwise than before."""
        for state in self.cib.intents():
            ends = (*state.intent.clients, *state.intent.servers, state.intent.middlebox)
            if any(end.host in (None, host) for end in ends if end is not None):
                self._follow.add(state.name)

    def _may_join(self, host: str) -> None:
        """Note that a host is back, which those intents may mean that do without who is away."""
        for state in self.cib.intents():
            if not any(host in one.items for one in state.deployments if not one.goes_down):
                self._follow.add(state.name)

    def follow(self, state: IntentState) -> None:
        """Let an intent's members be those that it means now, as far as that can be done now."""
        self._follow.discard(state.name)
        up = [one for one in state.deployments if not one.goes_down]
        if up and not state.revoked:
            self._follow_up(state, up)
        self._wait_no_longer(state)

    def _wait_no_longer(self, state: IntentState) -> None:
        """Have what goes down go on without hosts that are left out: those go by themselves."""
        for one in [one for one in state.deployments if one.ends]:
            out = one.items.keys() & state.left_out.keys()
            goes_alone = one.kind == "left" and out == one.items.keys()
            if one.phase == Phase.STOP_SEND and out and not goes_alone:
                ids = {item.id for host in out for item in one.items[host]}
                self._membership.leave(state, one, ids, "left out", self._new_uid())

    def _follow_up(self, state: IntentState, up: list[Deployment]) -> None:
        left = remaining(state.intent, state)
        if not left.clients or not left.servers:
            self._give_up(state, up)
            return
        refused = None
        for succession in sorted({one.succession for one in up}):
            try:
                self._follow_one(state, succession)
            except Refusal as refusal:
                refused = str(refusal)
        self._tell_followed(state, refused)

    def _tell_followed(self, state: IntentState, refused: str | None) -> None:
        """Take note of why an intent cannot be followed, and try again; or that it can."""
        if refused is not None:
            self._follow.add(state.name)
        if refused != state.unfollowed:
            state.unfollowed = refused
            text = f"not followed: {refused}" if refused else "followed again"
            self._note(state.name, state.phase, f"hosts and addresses are {text}", None)

    def _give_up(self, state: IntentState, up: list[Deployment]) -> None:
        state.error, state.unfollowed = state.error or "no host is left on one of its sides", None
        self.cib.note_intent(state)
        for deployment in up:
            deployment.error = state.error
            self._deployer.take_down(state, deployment, state.error)

    def _follow_one(self, state: IntentState, succession: int) -> None:
        up = running(state, succession)
        like, uid = next((one for one in up if one.items), up[0]), self._new_uid()
        plan = self.planner.plan_again(state, carried(state, like), uid)
        plan = as_before(plan, like)
        change = changes([item for one in up for item in one.planned()], plan)
        removed = {item.id for item in change.removed}
        gone = {item.host for item in change.removed}
        for skipped in plan.skipped:
            if skipped.host in gone:
                state.left_out[skipped.host] = skipped.reason
                state.error = f"host {skipped.host} is left out: {skipped.reason}"
                self.cib.note_intent(state)
        for deployment in up:
            here = {item.id for item in deployment.planned()} & removed
            if here:
                uid_left = self._new_uid()
                self._membership.leave(state, deployment, here, "no longer meant", uid_left)
        is_current = succession == current(state)
        if not change.added or (is_current and self._let_in(state, like, change.added, uid)):
            self._membership.tidy(state, up)
        if is_current and state.mirrors != list(plan.mirrors):
            state.mirrors = list(plan.mirrors)
            self._deployer.steered = True
            self.cib.note_intent(state)

    def _let_in(
        self, state: IntentState, like: Deployment, added: tuple[Planned, ...], uid: uuid.UUID
    ) -> bool:
        """Let new customizations go up; False where that has to wait.

        They do while others are on their way, and where a host still has older ones for the same
        flows.
        """
        if in_transition(state) or not state.active or _in_the_way(state, added):
            self._follow.add(state.name)
            return False
        refused = self.planner.without_room(state, added)
        if refused:
            state.left_out.update(refused)
            state.error = next(iter(refused.values()))
            self.cib.note_intent(state)
            self._follow.add(state.name)
            return False
        self._membership.join(state, added, like, uid)
        return True


def _in_the_way(state: IntentState, added: Iterable[Planned]) -> bool:
    """Whether a host has something for one of these flows that is still on its way down."""
    leaving: dict[str, list[Match]] = {}
    for one in state.deployments:
        for host, items in one.items.items() if one.goes_down else ():
            if one.is_on(host):
                leaving.setdefault(host, []).extend(item.match for item in items)
    return any(overlap(item.match, old) for item in added for old in leaving.get(item.host, ()))
