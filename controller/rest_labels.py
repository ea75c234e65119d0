"""REST route of what hosts are called."""

from __future__ import annotations

from fastapi import APIRouter

from controller.api import ErrorView
from controller.errors import Conflict
from controller.labels import MAX_LABELS, Labels, outdated
from controller.names import unknown_host
from controller.orchestrator import Orchestrator


def label_routes(orchestrator: Orchestrator) -> APIRouter:
    """Return the route; it answers with all labels of the host, once the change is committed."""
    router = APIRouter(responses={404: {"model": ErrorView}, 409: {"model": ErrorView}})

    @router.post("/hosts/{name}/labels")
    async def change(name: str, request: Labels) -> list[str]:
        host = orchestrator.cib.host(name)
        if host is None:
            raise unknown_host(orchestrator.cib, name)
        gone = outdated(set(host.labels), request)
        if len(set(host.labels) - gone | set(request.put)) > MAX_LABELS:
            raise Conflict(f"a host has at most {MAX_LABELS} labels: drop some")
        changed = orchestrator.label_host(name, set(request.put), gone)
        await orchestrator.saved()
        return list(changed.labels)

    return router
