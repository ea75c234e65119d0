"""What the REST API asks and answers about hosts' identities, tokens and the audit log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

RoleName = Literal["viewer", "operator", "admin"]
DAY = 86400.0


class EnrolTokenRequest(BaseModel):
    """For how long a token is good."""

    model_config = ConfigDict(extra="forbid")

    valid: Annotated[float, Field(ge=1, le=30 * DAY)] = 3600.0
    """Seconds."""


class EnrolTokenView(BaseModel):
    """A token, shown this once."""

    host: str
    token: str
    expires: float
    """Unix time in seconds."""
    replaces: bool
    """Whether the host has a certificate now, which ends when the token is used."""


class RevokedView(BaseModel):
    """What was revoked."""

    host: str
    certificates: int
    connected: bool
    """Whether a session of the host was cut."""


class TokenRequest(BaseModel):
    """A token for a REST caller."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=63)]
    role: RoleName
    valid: Annotated[float, Field(ge=1, le=3650 * DAY)] | None = None
    """Seconds; None: until it is revoked."""


class NewTokenView(BaseModel):
    """The token itself, shown this once."""

    name: str
    role: RoleName
    token: str


class TokenView(BaseModel):
    """A token, without its secret."""

    name: str
    role: RoleName
    created: float
    """Unix time in seconds."""
    expires: float | None


class ChallengeRequest(BaseModel):
    """Whom to challenge now."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """A host, or an intent: all that it has."""


class ChallengeView(BaseModel):
    """What became of a challenge."""

    host: str
    intent: str
    module: str
    customization: str
    verdict: str
    strength: str
    """Who computed the answer: `kernel`, `agent`, or nobody."""
    text: str


class AuditView(BaseModel):
    """An entry of the audit log."""

    at: float
    """Unix time in seconds."""
    actor: str
    source: str
    action: str
    subject: str
    detail: str
    outcome: str
    """`begun` where the service ended before it could say."""


def deed(action: str, subject: str) -> str:
    """Return what was done, and to whom where that is not said already."""
    return action if subject in action else f"{action} of {subject}"


class AuditPage(BaseModel):
    """The latest entries, the oldest first."""

    entries: list[AuditView]
    more: bool
    """Whether there are older ones that were asked for and left out."""
