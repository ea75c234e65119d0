"""The part of the REST API that shows what was monitored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sse_starlette import EventSourceResponse

from controller import monitor_queries
from controller.access import CALLER, Caller
from controller.api import ErrorView
from controller.database import Database
from controller.event_stream import NOBODY, stream
from controller.events import Filter
from controller.monitor import Monitor
from controller.monitor_api import AlertView, EventRecord, FlowView, SampleView
from controller.monitor_kinds import Kind
from controller.names import Names
from controller.tokens import Role

PING_SECONDS = 15
"""Between two comments on a stream of events on which nothing happens."""

MAX_TIME = 1e11
"""A Unix time that is far away, and in microseconds is a number that databases take."""

Kinds = Annotated[list[Kind] | None, Query(description="Kinds of events; left out: all.")]
Name = Annotated[str | None, Query(max_length=64)]
Since = Annotated[float, Query(ge=0, le=MAX_TIME, description="Unix time in seconds.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="At most so many, the newest.")]
LastEvent = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, lt=2**63)]


def make_router(
    monitor: Monitor, database: Database, registry: CollectorRegistry, names: Names
) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["monitoring"])
    crowded: dict[int | str, dict[str, Any]] = {409: {"model": ErrorView}}
    unknown: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}

    async def stored_events(wanted: Filter, since: float, limit: int) -> list[EventRecord]:
        query = monitor_queries.newest_events(wanted, since=since, limit=limit)
        events = await names.stored(query, host=wanted.host, intent=wanted.intent)
        return [EventRecord(**asdict(event)) for event in events]

    @router.get("/events", responses=crowded, response_class=EventSourceResponse)
    async def events(
        request: Request,
        kind: Kinds = None,
        intent: Name = None,
        host: Name = None,
        last: LastEvent = None,
    ) -> EventSourceResponse:
        """Return events as they happen (server-sent events), those after `Last-Event-ID` first."""
        wanted = Filter(_visible(request, kind), intent, host)
        caller: Caller | None = request.scope.get(CALLER)
        name, is_allowed = (
            (caller.name, caller.is_still_known) if caller else (NOBODY, lambda: True)
        )
        monitor.events.check_room(name)
        happening = stream(
            *(monitor.events, monitor.recorder, database, wanted, last),
            caller=name,
            is_allowed=is_allowed,
        )
        return EventSourceResponse(happening, ping=PING_SECONDS)

    @router.get("/events/log", responses=unknown)
    async def event_log(
        *,
        request: Request,
        kind: Kinds = None,
        intent: Name = None,
        host: Name = None,
        since: Since = 0.0,
        limit: Limit = 200,
    ) -> list[EventRecord]:
        """Return events that are stored, the oldest first."""
        wanted = Filter(_visible(request, kind), intent, host)
        return await stored_events(wanted, since, limit)

    @router.get("/intents/{name}/history", responses=unknown)
    async def history(name: str, since: Since = 0.0, limit: Limit = 1000) -> list[EventRecord]:
        """Return what happened to an intent, also one that is gone, the oldest first."""
        return await stored_events(Filter(frozenset({Kind.INTENT}), name), since, limit)

    @router.get("/flows", responses=unknown)
    async def flows(
        *,
        host: Name = None,
        intent: Name = None,
        process: Name = None,
        only_open: Annotated[bool, Query(alias="open")] = False,
        since: Since = 0.0,
        limit: Limit = 200,
    ) -> list[FlowView]:
        """Return flows, the last that were seen first; `process` may also be a thread's name."""
        query = monitor_queries.flows(
            host=host,
            intent=intent,
            process=process,
            only_open=only_open,
            since=since,
            limit=limit,
        )
        rows = await names.stored(query, host=host, intent=intent)
        return [FlowView.of(row) for row in rows]

    @router.get("/counters", responses=unknown)
    async def counters(
        intent: Annotated[str, Query(max_length=64)], since: Since = 0.0, limit: Limit = 1000
    ) -> list[SampleView]:
        """Return samples of what an intent's customizations counted, the oldest first."""
        query = monitor_queries.counters(intent, since=since, limit=limit)
        rows = await names.stored(query, intent=intent)
        return [SampleView.model_validate(row) for row in rows]

    @router.get("/alerts")
    async def alerts(cleared: Annotated[int, Query(ge=0, le=10_000)] = 0) -> list[AlertView]:
        """Return the alerts that are raised, then up to `cleared` of those that were."""
        raised = monitor.alerts.raised()
        past = await database.read(monitor_queries.cleared_alerts(cleared)) if cleared else []
        return [AlertView(**asdict(alert)) for alert in (*raised, *past)]

    @router.delete("/alerts/{number}", status_code=204, responses=unknown)
    async def clear(number: int) -> None:
        """Clear an alert by hand."""
        monitor.alerts.clear_by_hand(number)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the service's metrics in Prometheus's text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _visible(request: Request, kinds: list[Kind] | None) -> frozenset[Kind]:
    """Return the kinds that a caller wants and may see: who did what is for administrators."""
    caller: Caller | None = request.scope.get(CALLER)
    is_admin = caller is not None and caller.role >= Role.ADMIN
    wanted = frozenset(kinds or Kind)
    if wanted == {Kind.AUDIT} and not is_admin:
        raise HTTPException(403, "events of the audit log are for administrators")
    return wanted if is_admin else wanted - {Kind.AUDIT}
