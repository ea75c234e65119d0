"""REST routes of what is done to intents that are there, and to hosts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from controller.api import ErrorView, IntentView
from controller.orchestrator import Orchestrator
from controller.views import Views
from wire.messages import HostName, ModuleName

Hosts = Annotated[bool, Query(description="Show each host; of very many that takes a while.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Rotate(_Request):
    """By what an intent's module is replaced; what is left out stays as it is."""

    module: ModuleName | None = None
    parameters: Annotated[dict[str, StrictInt], Field(max_length=64)] = {}


class Priority(_Request):
    """A place in the order, lowest first."""

    priority: Annotated[int, Field(ge=0, le=65535)]


class Switch(_Request):
    """Whether it is so."""

    on: bool = True


class Admit(_Request):
    """A host that takes part again."""

    host: HostName


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
