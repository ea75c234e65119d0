"""The REST API's part on planning: what an intent would do, and the policy of the network."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from controller.api import ErrorView, PlanView, PolicyChange
from controller.build import BuildError
from controller.build_farm import BuildFarm
from controller.errors import Conflict, Invalid
from controller.facts import Platform
from controller.intent import Intent
from controller.orchestrator import Orchestrator
from controller.phases import GOING_UP, OVER, Phase
from controller.plan import Plan, Planned
from controller.plan_view import plan_view
from controller.policy import Policy, effective, strengthened
from controller.policy_store import Impact, PolicyStore, Running, impact

NAMED = 8
"""Intents that a refusal names."""

Force = Annotated[bool, Query(description="Revoke the intents that contradict the policy.")]


def planning_router(
    orchestrator: Orchestrator, policies: PolicyStore, farm: BuildFarm
) -> APIRouter:
    """Return the routes."""
    router = APIRouter(responses={409: {"model": ErrorView}})

    @router.post("/intents/plan")
    async def plan(intent: Intent) -> PlanView:
        made = orchestrator.plan(intent)
        carried_out = effective(policies.policy, intent)
        return plan_view(
            carried_out,
            made,
            _planned(orchestrator, intent.name),
            await _built(farm, intent, made),
            strengthened(intent, carried_out),
        )

    @router.get("/policy")
    async def policy() -> Policy:
        return policies.policy

    @router.put("/policy")
    async def change(policy: Policy, force: Force = False) -> PolicyChange:
        found = _impact(orchestrator, policies.policy, policy)
        if found.broken and not force:
            raise Conflict(_refusal(found))
        await policies.set(policy)
        enforce(orchestrator, policies)
        orchestrator.policy_changed()
        await orchestrator.saved()
        return PolicyChange(policy=policy, broken=found.broken, changed=found.changed)

    return router


def enforce(orchestrator: Orchestrator, policies: PolicyStore) -> None:
    """Revoke what contradicts the policy; also at start, where a change was cut short."""
    found = _impact(orchestrator, policies.policy, policies.policy)
    for name, sentences in found.broken.items():
        orchestrator.revoke(name, "; ".join(sentences))


def _impact(orchestrator: Orchestrator, before: Policy, after: Policy) -> Impact:
    hosts = orchestrator.cib.hosts()
    running = [
        Running(state.intent, tuple(hosts[name].facts() for name in state.by_host()))
        for state in orchestrator.cib.intents()
        if state.phase in GOING_UP or state.phase == Phase.BUILDING
    ]
    return impact(before, after, running, orchestrator.modules.manifest)


def _refusal(found: Impact) -> str:
    named = [f"{name} ({'; '.join(why)})" for name, why in list(found.broken.items())[:NAMED]]
    more = len(found.broken) - len(named)
    return (
        f"running intents contradict this policy: {', '.join(named)}"
        + (f" and {more} more" if more > 0 else "")
        + ": revoke them first, or have it done by `nco policy set --force`"
    )


def _planned(orchestrator: Orchestrator, name: str) -> list[Planned]:
    state = orchestrator.cib.intent(name)
    if state is None or state.phase in OVER:
        return []
    return [item for items in state.by_host().values() for item in items]


async def _built(farm: BuildFarm, intent: Intent, plan: Plan) -> dict[Platform, bool]:
    try:
        return {
            platform: await farm.is_built(intent.module, platform)
            for platform in {item.platform for item in plan.customizations}
        }
    except BuildError as error:
        raise Invalid(str(error)) from error
