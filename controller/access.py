"""Who may call the REST API, and for what: the one place in which every route has its role.

Callers on the Unix socket are root or the owner of the service, as the kernel says, and may do
everything. Callers by TLS show a token (`Authorization: Bearer ...`). What is in no rule is an
administrator's.
"""

from __future__ import annotations

import functools
import logging
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.limits import FailureLimit
from controller.tokens import ApiTokens, Role
from wire.http_connection import INTRODUCED

log = logging.getLogger(__name__)

READING = "GET|HEAD"

RULES: tuple[tuple[str, str, Role], ...] = (
    # methods, path, who; the first that fits
    (READING, r"/audit", Role.ADMIN),
    (READING, r"/tokens", Role.ADMIN),
    (READING, r"/ca", Role.VIEWER),
    (READING, r"/(status|hosts|modules|intents|policy|events|flows|counters|alerts|metrics)(/.*)?",
     Role.VIEWER),
    (READING, r"/(openapi\.json|docs|redoc)", Role.VIEWER),
    (READING, r"/(dashboard(/.*)?)?", Role.VIEWER),
    ("POST", r"/intents/plan", Role.VIEWER),
    ("PUT|POST|PATCH|DELETE", r"/intents/.+", Role.OPERATOR),
    ("DELETE", r"/alerts/[^/]+", Role.OPERATOR),
    ("POST", r"/challenges", Role.OPERATOR),
)  # fmt: skip

CALLER = "l45.caller"
"""Where the scope of a request has its `Caller`."""


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    name: str
    """`token NAME` or `user NAME`."""
    role: Role
    source: str
    is_still_known: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)
    """Whether it would be let in now: what is served for long asks again."""


class Denied(Exception):
    """A caller that is not served; the text says why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


Authenticate = Callable[[Scope], Caller]

Refused = Callable[[Caller, str, str], None]
"""Is told of a request that its caller's role does not allow: caller, method, path."""


def role_for(method: str, path: str) -> Role:
    """Return who may make a request."""
    return next(
        (
            role
            for methods, pattern, role in RULES
            if method in methods.split("|") and re.fullmatch(pattern, path)
        ),
        Role.ADMIN,
    )


class Access:
    """Serves a request if its caller is known and has the role for it."""

    def __init__(
        self, app: ASGIApp, authenticate: Authenticate, refused: Refused = lambda *_: None
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or say why not."""
        if scope["type"] != "http":
            await self._deny_other(scope, receive, send)
            return
        try:
            caller = self._authenticate(scope)
            self._authorise(caller, scope)
        except Denied as denied:
            headers = {"WWW-Authenticate": "Bearer"} if denied.status == 401 else None
            answer = JSONResponse({"detail": str(denied)}, denied.status, headers=headers)
            await answer(scope, receive, send)
            return
        scope[CALLER] = caller
        if introduced := scope.get("state", {}).get(INTRODUCED):
            introduced()

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 403:
                self._refused(caller, scope["method"], scope["path"])  # the route said so
            await send(message)

        await self._app(scope, receive, watch)

    def _authorise(self, caller: Caller, scope: Scope) -> None:
        method, path = scope["method"], scope["path"]
        needed = role_for(method, path)
        if caller.role < needed:
            self._refused(caller, method, path)
            raise Denied(
                403,
                f"{caller.name} has the role {caller.role.name.lower()}; {method} {path} takes "
                f"{needed.name.lower()}",
            )

    async def _deny_other(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})


def local_caller(scope: Scope) -> Caller:
    """Return who is at the other end of the Unix socket; raises Denied."""
    client = scope.get("client")
    if client is None:
        raise Denied(403, "the kernel does not say who calls")
    uid, pid = int(client[0]), int(client[1])
    if uid not in (0, os.geteuid()):
        raise Denied(403, f"uid {uid} is neither root nor the owner of the service")
    return Caller(f"user {_user(uid)}", Role.ADMIN, f"local pid {pid}")


def token_caller(
    tokens: ApiTokens, failures: FailureLimit, alarm: Callable[[str], None]
) -> Authenticate:
    """Return who knows callers by their tokens; `alarm` is told of an address that keeps trying."""

    def authenticate(scope: Scope) -> Caller:
        source = (scope.get("client") or ("?", 0))[0]
        shown = _bearer(scope)
        token = tokens.find(shown)
        if token is None and failures.is_exceeded(source):
            raise Denied(429, "too many requests from here had no good token: wait a minute")
        if token is None:
            if failures.failed(source):
                alarm(source)
            raise Denied(
                401,
                "a token is needed that this NCO knows and that has not expired: "
                "`nco --token-file FILE`, made by `nco token create` at the NCO",
            )

        def is_still_known() -> bool:
            return tokens.find(shown) is token

        return Caller(f"token {token.name}", token.role, source, is_still_known)

    return authenticate


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, text = value.decode("latin-1").partition(" ")
            return text.strip() if kind.lower() == "bearer" else ""
    return ""


@functools.lru_cache(maxsize=64)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
