"""Tokens in the CIB: those with which hosts enrol, and those that REST callers hold.

A token is 256 random bits, shown once; what is stored is its SHA-256, which is of no use to who
reads it: there is no guessing 256 bits, so no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from controller.database import Base, Database
from controller.errors import Conflict, Invalid, NotFound
from wire.enrol import SECRET_SIZE

API_PREFIX = "l45-api-"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

ENROL_TOKENS_KEPT = 30 * 86400.0
"""Seconds for which a token that was used or has expired is remembered, to say so."""

ANSWER_AGAIN = 300.0
"""Seconds for which who used a token may ask again with the same key: the answer may be lost."""


class Role(IntEnum):
    """What a caller may do; each may what those before it may."""

    VIEWER = 1
    """See everything but secrets."""
    OPERATOR = 2
    """Change what is customized."""
    ADMIN = 3
    """Decide who belongs: hosts, tokens, policy; read the audit log."""


class EnrolTokenRow(Base):
    """A token with which one host may enrol once."""

    __tablename__ = "enrol_token"

    digest: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(index=True)
    expires: Mapped[float]
    used: Mapped[float | None]
    used_key: Mapped[str | None]
    """Digest of the key that it was used for: its holder may ask again, if the answer was lost."""


class ApiTokenRow(Base):
    """A token of a REST caller."""

    __tablename__ = "api_token"

    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    role: Mapped[int]
    created: Mapped[float]
    expires: Mapped[float | None]


class EnrolmentRefused(Exception):
    """A token that is not accepted; the text is for the host, and for the audit log."""


def digest(secret: bytes) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret).hexdigest()


def add_enrol_token(session: Session, secret: bytes, host: str, now: float, valid: float) -> None:
    """Store a new token for a host, in place of one that was not used."""
    session.execute(
        delete(EnrolTokenRow).where(EnrolTokenRow.host == host, EnrolTokenRow.used.is_(None))
    )
    session.execute(delete(EnrolTokenRow).where(EnrolTokenRow.expires < now - ENROL_TOKENS_KEPT))
    session.add(
        EnrolTokenRow(
            digest=digest(secret), host=host, expires=now + valid, used=None, used_key=None
        )
    )


def void_enrol_tokens(session: Session, host: str) -> None:
    """Have no token of a host be good for anything, in the transaction that is under way."""
    session.execute(delete(EnrolTokenRow).where(EnrolTokenRow.host == host))


def has_enrol_token(session: Session, host: str) -> bool:
    """Whether a token was made for a host, and not revoked."""
    query = select(EnrolTokenRow.host).where(EnrolTokenRow.host == host).limit(1)
    return session.scalar(query) is not None


def redeem(session: Session, secret: bytes, host: str, key: bytes, now: float) -> None:
    """Use a host's token for this public key; raises EnrolmentRefused."""
    row = check(session, secret, host, key, now)
    if row.used is None:
        row.used, row.used_key = now, digest(key)


def check(session: Session, secret: bytes, host: str, key: bytes, now: float) -> EnrolTokenRow:
    """Return a host's token that is good for this public key; raises EnrolmentRefused."""
    row = session.get(EnrolTokenRow, digest(secret))
    if row is None:
        raise EnrolmentRefused(
            "the NCO does not know this token: it is of another NCO, a newer one took its place, "
            f"or the host was revoked since; `nco host token {host}` at the NCO makes another"
        )
    if row.host != host:
        raise EnrolmentRefused(f"the token is not for host {host!r}")
    if now > row.expires:
        raise EnrolmentRefused("the token has expired: `nco host token` at the NCO makes another")
    if row.used is not None and not _is_asked_again(row, row.used, key, now):
        raise EnrolmentRefused(
            "the token was used before: if it was not you, revoke the host "
            f"(`nco host revoke {host}`); `nco host token {host}` makes another"
        )
    return row


def _is_asked_again(row: EnrolTokenRow, used: float, key: bytes, now: float) -> bool:
    return row.used_key == digest(key) and now <= used + ANSWER_AGAIN


@dataclass(frozen=True)
class ApiToken:
    """A REST caller's token, without the secret."""

    name: str
    role: Role
    created: float
    expires: float | None


class ApiTokens:
    """The REST callers' tokens; what a request needs is in memory."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """Take Unix time from `clock`."""
        self._database = database
        self._clock = clock
        self._tokens: dict[str, ApiToken] = {}

    async def load(self) -> None:
        """Read them from the CIB."""
        query = select(ApiTokenRow)
        rows = await self._database.read(lambda session: list(session.scalars(query)))
        self._tokens = {row.digest: _token(row) for row in rows}

    def all(self) -> list[ApiToken]:
        """Return all, in the order of their names."""
        return sorted(self._tokens.values(), key=lambda token: token.name)

    def find(self, text: str) -> ApiToken | None:
        """Return the token that a caller shows, if it is one and has not expired.

        It is looked up by its digest: how long that takes says nothing of the secret.
        """
        shown = digest(text.encode(errors="replace"))
        found = next(
            (token for known, token in self._tokens.items() if hmac.compare_digest(known, shown)),
            None,
        )
        if found is None or (found.expires is not None and self._clock() > found.expires):
            return None
        return found

    async def create(self, name: str, role: Role, valid: float | None) -> str:
        """Store a new token and return it, this once; raises Conflict, Invalid."""
        if not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no token's name: lower-case letters, digits, '.', '_', '-'")
        taken = Conflict(f"a token {name!r} exists: `nco token revoke {name}` first")
        now = self._clock()
        text = API_PREFIX + secrets.token_urlsafe(SECRET_SIZE)
        token = ApiToken(name, role, now, now + valid if valid else None)

        def change(session: Session) -> None:
            if session.get(ApiTokenRow, name) is not None:
                raise taken
            session.add(
                ApiTokenRow(
                    name=name,
                    digest=digest(text.encode()),
                    role=role,
                    created=now,
                    expires=token.expires,
                )
            )

        await self._database.submit(change)
        self._tokens[digest(text.encode())] = token
        return text

    async def revoke(self, name: str) -> None:
        """Accept a token no more, from now on; raises NotFound."""
        found = [known for known, token in self._tokens.items() if token.name == name]
        if not found:
            raise NotFound(f"there is no token {name!r}; `nco token list` shows them")
        forget = delete(ApiTokenRow).where(ApiTokenRow.name == name)
        await self._database.submit(lambda session: session.execute(forget))
        self._tokens.pop(found[0], None)


def _token(row: ApiTokenRow) -> ApiToken:
    return ApiToken(row.name, Role(row.role), row.created, row.expires)
