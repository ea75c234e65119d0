"""What the REST API asks and answers about the NCO's certification authority."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class CaChange(BaseModel):
    """What to do about the replacement of the CA."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["begin", "finish", "abort"] = "begin"
    phase: Literal["spread", "retire"] | None = None
    """With `goes_back`: `finish` and `abort` are done there, and refused elsewhere."""
    goes_back: bool = False


class CaHostView(BaseModel):
    """A host without which the next step is not taken."""

    host: str
    connected: bool
    reason: str


class AuthorityView(BaseModel):
    """A certification authority."""

    name: str
    fingerprint: str
    """SHA-256 of its certificate."""
    expires: float
    """Unix time in seconds."""
    issues: bool
    """Whether certificates are issued by it now; the other one is only trusted."""


class CaView(BaseModel):
    """The authorities, and how far a replacement is."""

    authorities: list[AuthorityView]
    phase: Literal["spread", "retire"] | None
    """`spread`: hosts learn to trust the other one, `retire`: they get certificates of the new."""
    goes_back: bool
    hosts: int
    """That have a certificate which is not revoked."""
    missing: list[CaHostView]
    """The hosts that the next step waits for."""
    left_behind: list[CaHostView] = []
    """The hosts that the step which was asked for did not wait for."""
    pem: str
    """What hosts, and callers of this API, have to trust."""
