"""Enrolment at the NCO: hosts without a certificate, with a token; `wire.enrol` has the protocol.

It has a port of its own, so that the control channel's never talks to who has no certificate, and
an operator can close the one without the other. Everybody may connect: few at a time are served
(`controller.door`), each for a short time, and who fails again and again is turned away.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.orm import Session

from controller.audit import Entry, note
from controller.certificates import Authority, RequestError, pem, requested_key
from controller.channel import FrameChannel
from controller.database import Database
from controller.door import Address, Door, HandshakeError, hand_over
from controller.errors import Refusal, Unavailable
from controller.holders import Held, store
from controller.identities import CertificateRow, Identities, issued, revoke_all
from controller.limits import FailureLimit
from controller.tokens import EnrolmentRefused, add_enrol_token, check, redeem
from wire.enrol import (
    FROM_HOST,
    MAX_FRAME,
    SECRET_SIZE,
    Authorities,
    Enrol,
    Enrolled,
    Token,
    fingerprint,
)
from wire.messages import parse

log = logging.getLogger(__name__)


class Enrolment:
    """What tokens are made of and good for."""

    def __init__(
        self,
        database: Database,
        identities: Identities,
        signer: bytes,
        *,
        control: str,
        clock: Callable[[], float],
        cut: Callable[[str, str], object],
    ) -> None:
        """`signer` verifies artifacts (PEM); `cut` ends the session of a host, with a reason.

        Agents find the NCO at `control`.
        """
        self._database = database
        self._identities = identities
        self._signer = signer
        self._control = control
        self._clock = clock
        self._cut = cut

    @property
    def authority(self) -> Authority:
        """The one that hosts are to trust; of another one they are told once they are in."""
        return self._identities.authorities.signing

    async def token(self, host: str, valid: float, at: tuple[str, int]) -> str:
        """Return a new token for a host, good for `valid` seconds; the NCO is reached `at`."""
        secret, now = secrets.token_bytes(SECRET_SIZE), self._clock()
        await self._database.submit(lambda s: add_enrol_token(s, secret, host, now, valid))
        token = Token(
            address=at[0],
            port=at[1],
            host=host,
            secret=secret,
            fingerprint=fingerprint(pem(self.authority.certificate)),
        )
        return token.encode()

    async def enrol(self, asked: Enrol, source: str, trusted: Authority) -> Enrolled:
        """Use a token, for who trusts this authority.

        Raises EnrolmentRefused, RequestError, Refusal.
        """
        identities = self._identities
        if identities.is_switching or identities.is_unsure or trusted.id != self.authority.id:
            raise Unavailable("its CA is being replaced")
        self._identities.enrolling += 1
        try:
            return await self._enrol(asked, source, trusted)
        finally:
            self._identities.enrolling -= 1

    async def _enrol(self, asked: Enrol, source: str, authority: Authority) -> Enrolled:
        key = requested_key(asked.request)
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        now = self._clock()
        # First by reading: what is refused costs nobody a transaction.
        await self._database.read(lambda s: check(s, asked.secret, asked.host, der, now))
        held = Held(frozenset([authority.id]), authority.id)
        made: list[tuple[x509.Certificate, CertificateRow]] = []

        def change(session: Session) -> None:
            redeem(session, asked.secret, asked.host, der, now)
            revoke_all(session, asked.host, now)
            certificate = self._identities.sign(asked.host, asked.request, authority)
            row = self._identities.row(asked.host, certificate, "token")
            made.append((certificate, row))
            session.add(row)
            store(session, {asked.host: held})
            note(session, now, issued(row, source))

        await self._database.submit(change)
        certificate, row = made[-1]
        self._identities.enrolled(row, now)
        self._cut(asked.host, f"host {asked.host!r} was enrolled anew")
        await self._identities.holders.keep(asked.host, held)
        log.info("host=%s enrolled from=%s", asked.host, source)
        return Enrolled(certificate=pem(certificate), signer=self._signer, control=self._control)

    async def refused(self, host: str, source: str, reason: str) -> None:
        """Write down that somebody had no good token."""
        entry = Entry(
            "enrolment refused", host, actor="unknown", source=source, detail="", outcome=reason
        )
        now = self._clock()
        await self._database.submit(lambda session: note(session, now, entry))


@dataclass(frozen=True)
class EnrolLimits:
    """What the server grants those who connect; times in seconds."""

    peers: int = 64
    handshake_time: float = 5.0
    time: float = 10.0
    """For the whole of it, after the handshake."""
    failures: float = 10
    """Of one address, at once."""
    failures_per_second: float = 0.1


class EnrolConnection(FrameChannel):
    """One host, from its handshake to the answer."""

    def __init__(self, enrolment: Enrolment, failures: FailureLimit) -> None:
        super().__init__(max_frame=MAX_FRAME, max_unsent=4 * MAX_FRAME, stall_time=5.0)
        self.ended = asyncio.Event()
        self._enrolment = enrolment
        self._failures = failures
        self._source = "?"
        self._shown = enrolment.authority
        self._work: asyncio.Task[None] | None = None

    def opened(self, transport: asyncio.Transport) -> None:
        """Begin with the authorities: who connects may not know them yet."""
        self._source = (transport.get_extra_info("peername") or ("?", 0))[0]
        self.peer = f"{self._source} (enrolment)"
        self._shown = self._enrolment.authority
        self.send(Authorities(ca=pem(self._shown.certificate)))

    def received(self, value: Any) -> None:  # noqa: ANN401 - untrusted
        """Take the one message that there is."""
        asked = parse(FROM_HOST, value)
        if asked is not None and self._work is None:
            self._work = asyncio.create_task(self._answer(asked))

    def closed(self) -> None:
        """Tell who waits."""
        self.ended.set()

    async def _answer(self, asked: Enrol) -> None:
        try:
            self.send(await self._enrolment.enrol(asked, self._source, self._shown))
        except (EnrolmentRefused, RequestError) as error:
            await self._refuse(asked.host, str(error))
        except Refusal as error:
            self.send(Enrolled(error=f"the NCO cannot do it now, try again: {error}"))
        except Exception:
            log.exception("peer=%s enrolment failed", self.peer)
            self.send(Enrolled(error="internal error; the NCO's log has it"))
        self.close("enrolment is over")

    async def _refuse(self, host: str, reason: str) -> None:
        log.warning("peer=%s host=%s enrolment refused: %s", self.peer, host, reason)
        self._failures.failed(self._source)
        try:
            await self._enrolment.refused(host, self._source, reason)
        except Refusal as error:
            log.error("audit log not written: %s", error)
        self.send(Enrolled(error=reason))


class EnrolServer:
    """Accepts hosts that enrol; `start`, then `run` until cancelled."""

    def __init__(
        self, enrolment: Enrolment, context: ssl.SSLContext, limits: EnrolLimits | None = None
    ) -> None:
        self._enrolment = enrolment
        self._context = context
        self._limits = limits or EnrolLimits()
        self._failures = FailureLimit(
            time.monotonic,
            allowed=self._limits.failures,
            per_second=self._limits.failures_per_second,
        )
        self._listener: socket.socket | None = None
        self._door = Door("enrolment", self._limits.peers, self._serve)

    def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen; return where. Raises OSError."""
        self._listener = socket.create_server((address, port), backlog=64)
        bound: tuple[str, int] = self._listener.getsockname()
        return bound

    async def run(self) -> None:
        """Accept until cancelled."""
        assert self._listener is not None, "start first"  # noqa: S101
        await self._door.run(self._listener)

    async def _serve(self, sock: socket.socket, address: Address) -> None:
        source = address[0]
        if self._failures.is_exceeded(source):
            log.debug("peer=%s turned away from enrolment: it has failed too often", source)
            sock.close()
            return
        connection = EnrolConnection(self._enrolment, self._failures)
        try:
            await hand_over(sock, connection, self._context, self._limits.handshake_time)
        except HandshakeError as error:
            log.info("peer=%s handshake for enrolment failed: %s", source, error)
            return
        try:
            await asyncio.wait_for(connection.ended.wait(), self._limits.time)
        except TimeoutError:
            connection.abort("enrolment took too long")
        finally:
            connection.abort("it is sent away: others wait, or the service ends")
