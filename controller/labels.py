"""What the operator calls hosts: labels, by which intents and the policy mean them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from controller.api import ErrorView
from controller.errors import Conflict, NotFound
from controller.intent import Label
from controller.orchestrator import Orchestrator

MAX_LABELS = 64
"""Of one host."""

LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]


class Labels(BaseModel):
    """A change of a host's labels; a name has one value at a time."""

    model_config = ConfigDict(extra="forbid")

    put: Annotated[tuple[Label, ...], Field(max_length=MAX_LABELS)] = ()
    drop: Annotated[tuple[LabelName, ...], Field(max_length=MAX_LABELS)] = ()
    """Names of labels that go."""

    @model_validator(mode="after")
    def _once(self) -> Labels:
        names = [*map(name_of, self.put), *self.drop]
        if len(set(names)) != len(names):
            raise ValueError("a label is named twice")
        return self


def name_of(label: str) -> str:
    """Return what stands before the `=`."""
    return label.partition("=")[0]


def outdated(there: set[str], change: Labels) -> set[str]:
    """Return which of the labels that are there a change takes away."""
    names = {*map(name_of, change.put), *change.drop}
    return {label for label in there if name_of(label) in names}


def label_routes(orchestrator: Orchestrator) -> APIRouter:
    """Return the route; it answers with all labels of the host, once the change is committed."""
    router = APIRouter(responses={404: {"model": ErrorView}, 409: {"model": ErrorView}})

    @router.post("/hosts/{name}/labels")
    async def change(name: str, request: Labels) -> list[str]:
        host = orchestrator.cib.host(name)
        if host is None:
            raise NotFound(
                f"there is no host {name!r}: a host is known once its agent has connected"
            )
        gone = outdated(set(host.labels), request)
        if len(set(host.labels) - gone | set(request.put)) > MAX_LABELS:
            raise Conflict(f"a host has at most {MAX_LABELS} labels: drop some")
        changed = orchestrator.label_host(name, set(request.put), gone)
        await orchestrator.saved()
        return list(changed.labels)

    return router
