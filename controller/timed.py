"""What is due by time: looks at who belongs to intents, rotations, and hosts to be cut off."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from controller.agents import Agents
from controller.building import Building
from controller.cib import Cib
from controller.deployer import Deployer, Note
from controller.errors import Refusal
from controller.intent import Rotation
from controller.model import Deployment, IntentState
from controller.phases import Phase
from controller.planner import Planner
from controller.rotation import CUT_OFF_AFTER, in_transition, keeping_up, next_module

LOOK_EVERY = 1.0
"""Seconds between looks at what is due by the clock on the wall, and at members of intents."""

LOOK_SHARE = 10.0
"""How many times longer than a look the pause after it is, where very many hosts come."""


class Timed(Building):
    """See the module's text; the base of the orchestrator."""

    def __init__(
        self,
        cib: Cib,
        agents: Agents,
        deployer: Deployer,
        planner: Planner,
        note: Note,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        new_uid: Callable[[], uuid.UUID],
    ) -> None:
        super().__init__(cib, agents, deployer, planner, note, wall=wall, new_uid=new_uid)
        self._clock = clock
        self._looked: float | None = None
        """When it was looked last; None where nothing is due by time."""
        self._look_pause = LOOK_EVERY

    def _next_time(self) -> float | None:
        """Return when to look again, by the clock."""
        if self._looked is None:
            return self._clock() if self._follow else None
        return self._looked + self._look_pause

    def _look(self) -> None:
        """Look at members that may have changed, rotations that are due, and hosts to cut off."""
        now = self._clock()
        if self._looked is not None and now < self._looked + self._look_pause:
            return
        for name in sorted(self._follow):
            state = self.cib.intent(name)
            self._follow.discard(name)
            if state is not None:
                self.follow(state)
        timed = False
        for state in self.cib.intents():
            rotation = self.planner.carried_out(state.intent).rotation
            if not state.revoked and (rotation.every is not None or rotation.cut_off):
                timed = True
                self._rotate_if_due(state, rotation)
                self._cut_off(state, rotation)
        self._looked = now if timed or self._follow else None
        self._look_pause = max(LOOK_EVERY, LOOK_SHARE * (self._clock() - now))

    def _rotate_if_due(self, state: IntentState, rotation: Rotation) -> None:
        every, wall = rotation.every, self._wall()
        if every is None or state.phase != Phase.ACTIVE or in_transition(state):
            return
        if wall < state.rotated_at:  # the clock was set back
            state.rotated_at = wall
            self.cib.note_intent(state)
        if wall < state.rotated_at + every:
            return
        modules = (state.intent.module, *rotation.modules)
        try:
            self.rotate(state.name, next_module(modules, state.module))
        except Refusal as refusal:
            state.rotated_at, state.error = wall, f"rotation is due, and refused: {refusal}"
            self.cib.note_intent(state)
            self._note(state.name, state.phase, state.error, None)

    def _cut_off(self, state: IntentState, rotation: Rotation) -> None:
        """Leave behind who keeps a rotation up, where the policy says so."""
        if not rotation.cut_off:
            return
        for one in keeping_up(state):
            late = filter(partial(self._is_late, one), sorted(one.unconfirmed))
            self._leave_out(state, dict.fromkeys(late, "cut off: it kept a rotation up"))

    def _is_late(self, deployment: Deployment, host: str) -> bool:
        """Whether a host was away for too long of a deployment's phase."""
        away = self._agents.away_since(host)
        if away is None:
            return False
        return self._clock() >= max(away, self._deployer.since(deployment)) + CUT_OFF_AFTER
