"""REST routes of who belongs to the network: hosts' identities, callers' tokens, the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from controller.api import ErrorView
from controller.api_trust import (
    AuditPage,
    AuditView,
    ChallengeRequest,
    ChallengeView,
    EnrolTokenRequest,
    EnrolTokenView,
    NewTokenView,
    RevokedView,
    TokenRequest,
    TokenView,
)
from controller.challenger import Outcome
from controller.cib import Cib
from controller.names import check_either
from controller.tokens import ApiToken, Role
from controller.trust import Trust

MAX_ENTRIES = 10_000

HostPath = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


Unseen = Annotated[bool, Query(description="Also a host of which the NCO has never heard.")]


def trust_routes(trust: Trust, cib: Cib) -> APIRouter:
    """Return the routes; `controller.access` has who may use them."""
    routes = APIRouter()
    unknown: dict[int | str, dict[str, object]] = {404: {"model": ErrorView}}

    @routes.post("/hosts/{name}/token", status_code=201)
    async def enrol_token(name: HostPath, asked: EnrolTokenRequest) -> EnrolTokenView:
        token = await trust.enrol_token(name, asked.valid)
        return EnrolTokenView(
            host=name,
            token=token,
            expires=trust.now() + asked.valid,
            replaces=trust.identities.expires(name) is not None,
        )

    @routes.post("/hosts/{name}/revoke", responses=unknown)
    async def revoke_host(name: HostPath, unseen: Unseen = False) -> RevokedView:
        certificates, connected = await trust.revoke_host(name, unseen=unseen)
        return RevokedView(host=name, certificates=certificates, connected=connected)

    @routes.get("/tokens")
    async def tokens() -> list[TokenView]:
        return [_view(token) for token in trust.tokens.all()]

    @routes.post("/tokens", status_code=201)
    async def create_token(asked: TokenRequest) -> NewTokenView:
        role = Role[asked.role.upper()]
        text = await trust.tokens.create(asked.name, role, asked.valid)
        return NewTokenView(name=asked.name, role=asked.role, token=text)

    @routes.delete("/tokens/{name}", status_code=204)
    async def revoke_token(name: str) -> None:
        await trust.tokens.revoke(name)

    @routes.post("/challenges", responses=unknown)
    async def challenge(asked: ChallengeRequest) -> list[ChallengeView]:
        check_either(cib, asked.name)
        return [_challenged(outcome) for outcome in await trust.challenges.demand(asked.name)]

    @routes.get("/audit")
    async def audit(
        since: Annotated[float, Query(ge=0)] = 0.0,
        limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 1000,
    ) -> AuditPage:
        rows = await trust.audit.since(since, limit + 1)
        entries = [AuditView.model_validate(row, from_attributes=True) for row in rows[-limit:]]
        return AuditPage(entries=entries, more=len(rows) > limit)

    return routes


def _challenged(outcome: Outcome) -> ChallengeView:
    subject = outcome.subject
    return ChallengeView(
        host=subject.host,
        intent=subject.intent,
        module=subject.module,
        customization=subject.customization,
        verdict=outcome.verdict,
        strength=outcome.strength,
        text=outcome.text,
    )


def _view(token: ApiToken) -> TokenView:
    return TokenView.model_validate(
        {
            "name": token.name,
            "role": token.role.name.lower(),
            "created": token.created,
            "expires": token.expires,
        }
    )
