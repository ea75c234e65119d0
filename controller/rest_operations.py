"""REST routes of what is done to intents that are there, and to hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from controller.api import ErrorView, IntentView
from controller.api_operations import Admit, Priority, Rotate, Switch
from controller.orchestrator import Orchestrator
from controller.views import Views

Hosts = Annotated[bool, Query(description="Show each host; of very many that takes a while.")]

Act = Callable[[Orchestrator, str, Any], None]
"""Does to an intent, by its name, what a body asks for."""

OPERATIONS: dict[str, tuple[type[BaseModel], Act]] = {
    "rotate": (Rotate, lambda nco, name, asked: nco.rotate(name, asked.module, asked.parameters)),
    "deprecate": (Switch, lambda nco, name, asked: nco.deprecate(name, asked.on)),
    "activate": (Switch, lambda nco, name, asked: nco.activate(name, asked.on)),
    "priority": (Priority, lambda nco, name, asked: nco.prioritize(name, asked.priority)),
    "admit": (Admit, lambda nco, name, asked: nco.admit(name, asked.host)),
}
"""What is posted to `/intents/NAME/...`, with which body."""


def operation_routes(orchestrator: Orchestrator, views: Views) -> APIRouter:
    """Return the routes; each answers once the change is committed."""
    refusals: dict[int | str, dict[str, object]] = {
        status: {"model": ErrorView} for status in (404, 409)
    }
    router = APIRouter(responses=refusals)

    async def done(name: str, hosts: bool) -> IntentView:
        await orchestrator.saved()
        return views.intent(name, hosts=hosts)

    def handler(kind: type[BaseModel], act: Act) -> Callable[..., Awaitable[IntentView]]:
        async def handle(name: str, asked: BaseModel, hosts: Hosts = True) -> IntentView:
            act(orchestrator, name, asked)
            return await done(name, hosts)

        handle.__annotations__["asked"] = kind  # which is what FastAPI goes by
        return handle

    for what, (kind, act) in OPERATIONS.items():
        router.post(f"/intents/{{name}}/{what}", status_code=202, name=what)(handler(kind, act))

    @router.delete("/intents/{name}/rotation", status_code=202)
    async def cancel_rotation(name: str, hosts: Hosts = True) -> IntentView:
        orchestrator.cancel_rotation(name)
        return await done(name, hosts)

    @router.delete("/hosts/{name}", status_code=204)
    async def forget(name: str) -> None:
        orchestrator.forget_host(name)
        await orchestrator.saved()

    return router
