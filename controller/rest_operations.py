"""REST routes of what is done to intents that are there, and to hosts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from controller.api import ErrorView, IntentView
from controller.api_operations import Admit, Priority, Rotate, Switch
from controller.orchestrator import Orchestrator
from controller.views import Views

Hosts = Annotated[bool, Query(description="Show each host; of very many that takes a while.")]


def operation_routes(orchestrator: Orchestrator, views: Views) -> APIRouter:
    """Return the routes; each answers once the change is committed."""
    refusals: dict[int | str, dict[str, object]] = {
        status: {"model": ErrorView} for status in (404, 409)
    }
    router = APIRouter(responses=refusals)

    async def done(name: str, hosts: bool) -> IntentView:
        await orchestrator.saved()
        return views.intent(name, hosts=hosts)

    @router.post("/intents/{name}/rotate", status_code=202)
    async def rotate(name: str, request: Rotate, hosts: Hosts = True) -> IntentView:
        orchestrator.rotate(name, request.module, request.parameters)
        return await done(name, hosts)

    @router.delete("/intents/{name}/rotation", status_code=202)
    async def cancel_rotation(name: str, hosts: Hosts = True) -> IntentView:
        orchestrator.cancel_rotation(name)
        return await done(name, hosts)

    @router.post("/intents/{name}/deprecate", status_code=202)
    async def deprecate(name: str, request: Switch, hosts: Hosts = True) -> IntentView:
        orchestrator.deprecate(name, request.on)
        return await done(name, hosts)

    @router.post("/intents/{name}/activate", status_code=202)
    async def activate(name: str, request: Switch, hosts: Hosts = True) -> IntentView:
        orchestrator.activate(name, request.on)
        return await done(name, hosts)

    @router.post("/intents/{name}/priority", status_code=202)
    async def prioritize(name: str, request: Priority, hosts: Hosts = True) -> IntentView:
        orchestrator.prioritize(name, request.priority)
        return await done(name, hosts)

    @router.post("/intents/{name}/admit", status_code=202)
    async def admit(name: str, request: Admit, hosts: Hosts = True) -> IntentView:
        orchestrator.admit(name, request.host)
        return await done(name, hosts)

    @router.delete("/hosts/{name}", status_code=204)
    async def forget(name: str) -> None:
        orchestrator.forget_host(name)
        await orchestrator.saved()

    return router
