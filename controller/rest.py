"""The REST API: FastAPI on a Unix socket that only the owner may open."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_plus

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.access import Access, Authenticate, Refused, local_caller
from controller.api import (
    ErrorView,
    HostView,
    IntentView,
    ModuleView,
    StatusView,
)
from controller.audit_trail import AuditTrail
from controller.channel import private_listener
from controller.door import Address, Door, HandshakeError, hand_over
from controller.errors import Conflict, Invalid, NotFound, Refusal, Unavailable
from controller.intent import Intent
from controller.orchestrator import Orchestrator
from controller.rest_ca import ca_routes
from controller.rest_http import LocalConnection
from controller.rest_operations import Hosts, operation_routes
from controller.rest_trust import trust_routes
from controller.switch_server import SwitchServer
from controller.trust import Trust
from controller.views import Views
from wire.http_connection import HttpConnection
from wire.manifest import words

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024

MAX_CONNECTIONS = 128
"""To one socket; who has more is told that it is too much."""

STRANGERS = 64
"""Connections of those whose token has not been seen yet."""

HANDSHAKE_SECONDS = 5.0

STATUS_OF: dict[type[Refusal], int] = {
    NotFound: 404,
    Conflict: 409,
    Invalid: 422,
    Unavailable: 503,
}


class BodyLimit:
    """Refuses requests whose body is longer than the maximum, whatever they announce."""

    def __init__(self, app: ASGIApp, maximum: int) -> None:
        self._app = app
        self._maximum = maximum

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then let the application have it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the caller went away
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._maximum:
                detail = f"the request is longer than {self._maximum} bytes"
                await JSONResponse({"detail": detail}, 413)(scope, receive, send)
                return
        whole: Message = {"type": "http.request", "body": body, "more_body": False}
        replies = iter([whole])

        async def replay() -> Message:
            return next(replies, None) or await receive()

        await self._app(scope, replay, send)


class PlainText:
    """Refuses addresses with control characters, which are in no name: databases choke on some."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application have what can be read."""
        if scope["type"] == "http":
            asked = scope["path"] + unquote_plus(scope["query_string"].decode("latin-1"))
            if any(ord(char) < ord(" ") or char == "\x7f" for char in asked):
                detail = "the address has control characters, like %00 or %0A: leave them out"
                await JSONResponse({"detail": detail}, 400)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def make_app(
    orchestrator: Orchestrator, switches: SwitchServer, trust: Trust, control: str, listen: str
) -> FastAPI:
    """Return the application, to be served to callers that `controller.access` knows."""
    app = FastAPI(title="Layer 4.5 NCO", version="1", responses={422: {"model": ErrorView}})
    app.add_middleware(AuditTrail, audit=trust.audit)
    app.add_middleware(BodyLimit, maximum=MAX_BODY)
    app.add_middleware(PlainText)
    app.include_router(trust_routes(trust, orchestrator.cib))
    app.include_router(ca_routes(trust.rotation, trust.identities))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    views = Views(orchestrator, switches)
    refusals = {status: {"model": ErrorView} for status in (404, 409)}

    @app.get("/status")
    async def status() -> StatusView:
        hosts = orchestrator.cib.hosts()
        return StatusView(
            pid=os.getpid(),
            control=control,
            listen=listen,
            enrol_port=trust.enrol_port,
            rest_port=trust.rest_port,
            hosts=len(hosts),
            hosts_connected=sum(orchestrator.now(host).connected for host in hosts),
            intents=len(orchestrator.cib.intents()),
            application_connected=switches.connected,
            switches=switches.switches,
        )

    @app.get("/hosts")
    async def hosts() -> list[HostView]:
        return views.hosts()

    @app.get("/modules")
    async def modules() -> list[ModuleView]:
        return views.modules()

    @app.get("/intents")
    async def intents() -> list[IntentView]:
        await orchestrator.readable()
        return views.intents()

    @app.get("/intents/{name}", responses={404: refusals[404]})
    async def intent(name: str, hosts: Hosts = True) -> IntentView:
        await orchestrator.readable()
        return views.intent(name, hosts=hosts)

    @app.put("/intents/{name}", responses={409: refusals[409]})
    async def apply(
        name: str, intent: Intent, response: Response, hosts: Hosts = True
    ) -> IntentView:
        if intent.name != name:
            raise Invalid(f"the intent is named {intent.name!r}, the address says {name!r}")
        response.status_code = 201 if orchestrator.apply(intent) else 200
        await orchestrator.saved()
        return views.intent(name, hosts=hosts)

    @app.delete("/intents/{name}", status_code=202, responses={404: refusals[404]})
    async def revoke(name: str, hosts: Hosts = True) -> IntentView:
        orchestrator.revoke(name)
        await orchestrator.saved()
        return views.intent(name, hosts=hosts)

    app.include_router(operation_routes(orchestrator, views))
    return app


async def _refused(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, STATUS_OF.get(type(error), 400))  # type: ignore[arg-type] # registered for Refusal only


async def _not_understood(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it only
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'][1:]) or 'body'}: {words(fault)}"
        for fault in error.errors()
    ]
    return JSONResponse({"detail": "; ".join(faults)}, 422)


class RestServer:
    """Uvicorn on a socket of ours, leaving signals to the service."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        connection: type[HttpConnection] = HttpConnection,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Serve `app`, by TLS where there is a `context`."""
        self._connection = connection
        self._context = context
        self._config = uvicorn.Config(
            app,
            http=connection,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=30,
            proxy_headers=False,  # or a caller could say that it is another one
        )
        self._server = _Uvicorn(self._config)

    async def run(self, path: Path) -> None:
        """Serve on a Unix socket that only the owner may open, until cancelled."""
        with private_listener(path) as listener:
            await self._server.serve(sockets=[listener])

    async def run_on(self, listener: socket.socket) -> None:
        """Serve whoever connects to a socket that listens, until cancelled."""
        door = Door("REST", STRANGERS, self._welcome)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.serve(sockets=[]))
            while not self._server.started:  # noqa: ASYNC110 - a matter of milliseconds
                await asyncio.sleep(0.01)
            tasks.create_task(door.run(listener))

    async def _welcome(self, sock: socket.socket, address: Address) -> None:
        """See a new connection through its handshake, until its caller is known."""
        server = self._server
        connection = self._connection(
            config=self._config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
        )
        try:
            await hand_over(sock, connection, self._context, HANDSHAKE_SECONDS)
        except HandshakeError as error:
            log.info("peer=%s:%d REST handshake failed: %s", *address, error)
            return
        try:
            await connection.introduced.wait()
        except asyncio.CancelledError:
            connection.transport.abort()
            raise


async def serve_locally(app: ASGIApp, path: Path) -> None:
    """Serve who may open the Unix socket, until cancelled."""
    await RestServer(Access(app, local_caller), connection=LocalConnection).run(path)


async def serve_by_tls(
    app: ASGIApp,
    listener: socket.socket,
    context: ssl.SSLContext,
    authenticate: Authenticate,
    refused: Refused,
) -> None:
    """Serve callers with tokens, until cancelled; `refused` is told what they may not do."""
    access = Access(app, authenticate, refused)
    with listener:
        await RestServer(access, context=context).run_on(listener)


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
