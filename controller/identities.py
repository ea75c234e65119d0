"""Whose certificate is accepted: those that were issued and not revoked, until they expire.

What a connection needs is in memory; the CIB has it before anybody is told. A certificate that the
service did not issue itself (`nco host add` is offline) counts from the moment it is first seen;
one that was made before its host was revoked is as revoked as the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Any, Literal

from cryptography import x509
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from controller.audit import Entry, note
from controller.authorities import Authorities
from controller.certificates import CLIENT, Authority, RequestError, pem, requested_key
from controller.database import Base, Database
from controller.errors import Conflict, NotFound, Refusal, listed
from controller.holders import Holders, remove, store
from controller.tokens import has_enrol_token, void_enrol_tokens
from wire.identity import PeerCertificate
from wire.messages import Renewed

log = logging.getLogger(__name__)

Origin = Literal["token", "renewal", "offline"]

AGAIN = 0.25
"""Of a certificate's lifetime has to pass before its host may ask for another one."""


CHUNK = 500
"""Certificates that one statement has."""


class CertificateRow(Base):
    """A certificate of a host."""

    __tablename__ = "certificate"

    serial: Mapped[str] = mapped_column(primary_key=True)
    """Hexadecimal."""
    host: Mapped[str] = mapped_column(index=True)
    issued: Mapped[float]
    """Unix time in seconds, as are all."""
    expires: Mapped[float]
    origin: Mapped[str]
    revoked: Mapped[float | None]


class RevocationRow(Base):
    """When a host was revoked last."""

    __tablename__ = "revocation"

    host: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[float]


@dataclass
class _Known:
    issued: float
    expires: float
    revoked: bool


@dataclass(frozen=True)
class Validity:
    """For how long certificates are good; seconds."""

    lifetime: float
    grace: float
    """For which an expired one is still let in, to be renewed."""


class Identities:
    """See the module's text. All but what is awaited is called from one thread."""

    def __init__(
        self,
        database: Database,
        authorities: Authorities,
        validity: Validity,
        clock: Callable[[], float],
    ) -> None:
        """Issue certificates of one of the `authorities`; `clock` gives Unix time."""
        self.authorities = authorities
        self.holders = Holders(database)
        self.wanted: set[str] = set()
        """Hosts that were asked to renew, however new their certificates are."""
        self.enrolling = 0
        """Hosts that enrol at this moment: they trust the authority that issues, and no other."""
        self.is_switching = False
        """Whether another authority is about to issue: nobody enrols meanwhile."""
        self.is_unsure = False
        """Whether the disk may have other authorities than these: nobody enrols meanwhile."""
        self._database = database
        self._validity = validity
        self._clock = clock
        self._known: dict[str, dict[int, _Known]] = {}
        """Of each host, by serial."""
        self._revoked: dict[str, float] = {}
        self._unstored: list[CertificateRow] = []
        """Those that were seen, and wait for the ones before them to be stored."""
        self._storing = False

    async def load(self) -> None:
        """Read what is known from the CIB."""
        certificates = await self._database.read(lambda s: list(s.scalars(select(CertificateRow))))
        revocations = await self._database.read(lambda s: list(s.scalars(select(RevocationRow))))
        for row in certificates:
            self._remember(row)
        self._revoked = {row.host: row.at for row in revocations}
        await self.holders.load()

    def refusal(self, certificate: PeerCertificate) -> str | None:
        """Return why a certificate is not accepted now, or None."""
        name, known = certificate.name, self._certificate(certificate)
        revoked_at = self._revoked.get(name)
        before = revoked_at is not None and certificate.issued <= revoked_at
        if known.revoked if known else before:
            return (
                f"host {name!r} was revoked, or enrolled anew, after this certificate was issued: "
                f"`nco host token {name}` at the NCO, then `dca enrol` on the host"
            )
        late = self._clock() - certificate.expires
        if late > self._validity.grace:
            return (
                f"the certificate of {name!r} has expired {late / 3600:.1f} hours ago by the NCO's "
                f"clock: `nco host token {name}` there, then `dca enrol` on the host"
            )
        return None

    async def seen(self, certificate: PeerCertificate) -> None:
        """Take note of a certificate that was accepted; one issued offline is new to the CIB."""
        if self._certificate(certificate) is not None or self.refusal(certificate) is not None:
            return
        row = _row(
            certificate.name,
            certificate.serial,
            certificate.issued,
            certificate.expires,
            "offline",
        )
        self._remember(row)
        self._unstored.append(row)
        if not self._storing:
            await self._store_seen()

    async def _store_seen(self) -> None:
        """Store what was seen, all together: ten thousand hosts may come at once."""
        self._storing = True
        try:
            while self._unstored:
                rows, self._unstored = self._unstored, []
                await self._database.submit(partial(_insert_new, [_values(row) for row in rows]))
        finally:
            self._storing = False

    async def renew(self, host: str, request: bytes) -> Renewed:
        """Answer a request for a new certificate on the connection of this host."""
        wanted = host in self.wanted
        self.wanted.discard(host)
        if not wanted and self._asked_too_soon(host):
            return Renewed(error="this host got a certificate only just now: use that one")
        authorities = self.authorities
        try:
            certificate = await self.issue(host, request)
        except RequestError as error:
            return Renewed(error=str(error))
        except Refusal as error:
            log.error("host=%s certificate not renewed: %s", host, error)
            return Renewed(error=f"the NCO cannot renew it now: {error}")
        return Renewed(certificate=pem(certificate), ca=authorities.bundle)

    async def issue(self, host: str, request: bytes) -> x509.Certificate:
        """Return a new certificate of a host that is known; raises RequestError, Refusal."""
        authorities = self.authorities
        certificate = self.sign(host, request, authorities.signing)
        row = self.row(host, certificate, "renewal")
        now, forgotten = self._clock(), self._clock() - self._validity.grace
        known = self._revoked.get(host)
        held = self.holders.sent(host, authorities)

        def change(session: Session) -> None:
            revocation = session.get(RevocationRow, host)
            if revocation is not None and revocation.at != known:
                raise Conflict(f"host {host!r} was revoked, or enrolled anew, meanwhile")
            session.add(_copy(row))
            if held is not None:
                store(session, {host: held})
            session.execute(
                delete(CertificateRow).where(
                    CertificateRow.host == host, CertificateRow.expires < forgotten
                )
            )
            note(session, now, issued(row))

        await self._database.submit(change)
        self._remember(row)
        self._forget(host, forgotten)
        if self.authorities is not authorities:
            raise Conflict("its authority was replaced meanwhile: ask again")
        return certificate

    async def revoke(self, host: str, *, unseen: bool = False) -> int:
        """Accept no certificate and no token any more that this host has.

        Return how many certificates were known. Raises NotFound where there never was one, nor a
        token, but for `unseen`: of credentials that were issued offline only their use is known.
        """
        now = self._clock()
        heard_of = unseen or host in self._known or host in self._revoked

        def change(session: Session) -> None:
            if not heard_of and not has_enrol_token(session, host):
                raise self._unknown(host)
            revoke_all(session, host, now)
            void_enrol_tokens(session, host)
            remove(session, host)

        await self._database.submit(change)
        self.holders.forget(host)
        return self.revoked(host, now)

    def _unknown(self, host: str) -> NotFound:
        return NotFound(
            f"there is no host {host!r}: it has no certificate and no token; hosts: "
            f"{listed(self._known, 'nco host list')}. Credentials that `nco host add` wrote and "
            f"nobody has used yet are revoked by `nco host revoke {host} --unseen`"
        )

    def sign(self, host: str, request: bytes, authority: Authority) -> x509.Certificate:
        """Return a certificate that nobody knows yet; raises RequestError."""
        return authority.issue(
            requested_key(request),
            host,
            CLIENT,
            lifetime=timedelta(seconds=self._validity.lifetime),
            now=datetime.fromtimestamp(self._clock(), UTC),
        )

    def row(self, host: str, certificate: x509.Certificate, origin: Origin) -> CertificateRow:
        """Return what the CIB should know of a new certificate."""
        expires = certificate.not_valid_after_utc.timestamp()
        return _row(host, certificate.serial_number, self._clock(), expires, origin)

    def enrolled(self, row: CertificateRow, at: float) -> None:
        """Take note of a certificate, now stored, for which all others were revoked `at` a time."""
        self.revoked(row.host, at)
        self._remember(row)

    def hosts(self) -> Iterator[str]:
        """Yield the hosts that have a certificate which is not revoked, expired or not."""
        for host, known in self._known.items():
            if any(not one.revoked for one in known.values()):
                yield host

    def revoked(self, host: str, at: float) -> int:
        """Take note that what this host had is stored as revoked; return how many were known."""
        self._revoked[host] = at
        known = [one for one in self._of(host) if not one.revoked]
        for one in known:
            one.revoked = True
        return len(known)

    def expires(self, host: str) -> float | None:
        """Return when the last certificate of a host expires, None where it has none."""
        return max((one.expires for one in self._of(host) if not one.revoked), default=None)

    def has_lapsed(self, host: str) -> bool:
        """Whether the last certificate of a host has expired, and its grace is over."""
        expires = self.expires(host)
        return expires is not None and self._clock() - expires > self._validity.grace

    def _asked_too_soon(self, host: str) -> bool:
        """Whether a certificate of this host is almost new: nobody makes us sign without end."""
        newest = max(self._of(host), key=lambda one: one.issued, default=None)
        if newest is None:
            return False
        life = min(self._validity.lifetime, newest.expires - newest.issued)  # offline: as asked for
        return 0 <= self._clock() - newest.issued < life * AGAIN

    def _of(self, host: str) -> list[_Known]:
        return list(self._known.get(host, {}).values())

    def _certificate(self, certificate: PeerCertificate) -> _Known | None:
        return self._known.get(certificate.name, {}).get(certificate.serial)

    def _remember(self, row: CertificateRow) -> None:
        known = _Known(row.issued, row.expires, row.revoked is not None)
        self._known.setdefault(row.host, {})[int(row.serial, 16)] = known

    def _forget(self, host: str, before: float) -> None:
        for serial, known in list(self._known.get(host, {}).items()):
            if known.expires < before:
                del self._known[host][serial]


def revoke_all(session: Session, host: str, at: float) -> None:
    """Mark all certificates of a host as revoked, in the transaction that is under way."""
    session.execute(
        update(CertificateRow)
        .where(CertificateRow.host == host, CertificateRow.revoked.is_(None))
        .values(revoked=at)
    )
    session.merge(RevocationRow(host=host, at=at))


def _insert_new(rows: list[dict[str, Any]], session: Session) -> None:
    """Store certificates, but those that are there already.

    Their hosts may have been revoked since they were let in: only what is committed tells.
    """
    for begin in range(0, len(rows), CHUNK):
        chunk = {row["serial"]: row for row in rows[begin : begin + CHUNK]}
        known = select(CertificateRow.serial).where(CertificateRow.serial.in_(chunk))
        for serial in session.scalars(known):
            del chunk[serial]
        if chunk:
            session.execute(insert(CertificateRow), _as_revoked(list(chunk.values()), session))


def _as_revoked(rows: list[dict[str, Any]], session: Session) -> list[dict[str, Any]]:
    """Return certificates, each as revoked as its host is that was revoked after it was issued."""
    hosts = {row["host"] for row in rows}
    query = select(RevocationRow).where(RevocationRow.host.in_(hosts))
    at = {one.host: one.at for one in session.scalars(query)}
    return [
        {**row, "revoked": at[row["host"]]} if row["issued"] <= at.get(row["host"], -inf) else row
        for row in rows
    ]


def issued(row: CertificateRow, source: str = "") -> Entry:
    """Return what the audit log says of a new certificate."""
    return Entry(
        "certificate issued",
        row.host,
        actor=f"agent {row.host}",
        source=source,
        detail=f"by {row.origin}, serial {row.serial}",
    )


def _row(host: str, serial: int, issued: float, expires: float, origin: Origin) -> CertificateRow:
    return CertificateRow(
        serial=f"{serial:x}",
        host=host,
        issued=issued,
        expires=expires,
        origin=origin,
        revoked=None,
    )


def _values(row: CertificateRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in CertificateRow.__table__.columns}


def _copy(row: CertificateRow) -> CertificateRow:
    """Return another object of the same row: a change may run again, in another session."""
    return CertificateRow(**_values(row))
