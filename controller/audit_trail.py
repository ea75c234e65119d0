"""Writes every request that changes something into the audit log, before it is carried out."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.access import CALLER, READING, Caller
from controller.audit import BEGUN, AuditLog, Entry
from controller.errors import Refusal

log = logging.getLogger(__name__)

UNCHANGING = {("POST", "/intents/plan")}
MAX_SUBJECT = 64
SECRETIVE = ("secret", "token", "key", "password", "passphrase")
"""A field whose name has one of these is not written down."""


class AuditTrail:
    """ASGI middleware inside of what knows the caller and has read the body."""

    def __init__(self, app: ASGIApp, audit: AuditLog) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write it down, have it done, add what came of it; undone where it cannot be written."""
        if not _changes(scope):
            await self._app(scope, receive, send)
            return
        first = await receive()
        try:
            number = await self._audit.begin(_entry(scope, first.get("body", b"")))
        except Refusal as error:
            detail = f"nothing was done, as the audit log cannot be written: {error}"
            await JSONResponse({"detail": detail}, 503)(scope, receive, send)
            return
        waiting = [first]
        status = 0

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, replay, watch)
        finally:
            await self._end(number, status)

    async def _end(self, number: int, status: int) -> None:
        try:
            await self._audit.end(number, f"answered {status}" if status else "failed")
        except Refusal as error:
            log.error("audit entry=%d has no outcome: %s", number, error)


def _changes(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] in READING.split("|"):
        return False
    return (scope["method"], scope["path"]) not in UNCHANGING


def _entry(scope: Scope, body: bytes) -> Entry:
    caller: Caller | None = scope.get(CALLER)
    return Entry(
        action=f"{scope['method']} {scope['path'][:256]}",
        subject=_subject(scope["path"]),
        actor=caller.name if caller else "?",
        source=caller.source if caller else "?",
        detail=_summary(body),
        outcome=BEGUN,
    )


def refusal(caller: Caller, method: str, path: str, *, is_last: bool) -> Entry:
    """Return what is written of a request that a caller's role does not allow.

    `is_last`: what this caller tries next is not written down.
    """
    shown = "".join(char if char.isprintable() else "?" for char in path)
    role = f"the role {caller.role.name.lower()} does not suffice"
    return Entry(
        action=f"{method} {shown[:256]}",
        subject=_subject(shown),
        actor=caller.name,
        source=caller.source,
        detail=f"{role}; more of this caller are not written down for a while" if is_last else role,
        outcome="refused",
    )


def _subject(path: str) -> str:
    """Return which host, intent or token a path is about."""
    parts = path.split("/")
    return parts[2][:MAX_SUBJECT] if len(parts) > 2 else ""


def _summary(body: bytes) -> str:
    """Return what a request asks for, without secrets, and the digest of the whole."""
    if not body:
        return ""
    digest = hashlib.sha256(body).hexdigest()[:16]
    try:
        text = json.dumps(_public(json.loads(body)), separators=(",", ":"))
    except (ValueError, RecursionError):
        text = f"{len(body)} bytes"
    return f"sha256:{digest} {text}"


def _public(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {
            name: "..." if any(word in name.lower() for word in SECRETIVE) else _public(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_public(inner) for inner in value[:100]]
    return value
