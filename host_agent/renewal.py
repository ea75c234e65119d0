"""The agent renews its certificate before it expires, over the connection that it has.

Each certificate is for a new key. When to ask is drawn between 60 and 70 % of a certificate's life,
so that thousands of hosts that enrolled together do not ask together. Of a certificate that came
just now its life counts from now, by a clock that nobody sets: a host with a wrong calendar neither
asks without end nor forgets to ask. A host whose certificate expired while it was off asks as soon
as it is let in (the NCO's `certificate_grace`). While the NCO's certification authority is replaced
the NCO says when to ask, and is told what authorities are trusted here and which one has issued.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from wire import credential_files
from wire.identity import CLOCK_SKEW, Credentials, IdentityError, authority_id
from wire.messages import MAX_AUTHORITIES, Holds, Renew, Renewed, RenewNow

log = logging.getLogger(__name__)

EARLIEST, LATEST = 0.6, 0.7
"""When to ask, as parts of a certificate's life."""

ANSWER_SECONDS = 10.0
"""How long the answer may take."""

RETRY_LIFE = 0.02
"""After which part of a life to ask again where it was in vain, and `MAX_RETRY` seconds at most."""

MIN_RETRY = 0.2
MAX_RETRY = 60.0


@dataclass(frozen=True)
class Life:
    """When a certificate was made and when it expires; Unix time in seconds."""

    issued: float
    expires: float

    @property
    def length(self) -> float:
        """Seconds from the one to the other."""
        return max(0.0, self.expires - self.issued)

    @property
    def retry(self) -> float:
        """Seconds after which to ask again."""
        return min(MAX_RETRY, max(MIN_RETRY, self.length * RETRY_LIFE))

    def due_in(self, now: float, part: float) -> float:
        """Return in how many seconds it will be `part` of its life old; never more than that."""
        return min(max(0.0, self.issued + self.length * part - now), self.length * part)


def life(certificate: bytes) -> Life:
    """Return the life of a PEM certificate of the NCO's; raises ValueError."""
    parsed = x509.load_pem_x509_certificate(certificate)
    issued = parsed.not_valid_before_utc + CLOCK_SKEW
    return Life(issued.timestamp(), parsed.not_valid_after_utc.timestamp())


class Renewal:
    """Keeps the credentials of one agent fresh; `run` it beside the channel."""

    def __init__(
        self,
        credentials: Credentials,
        name: str,
        *,
        send: Callable[[Renew | Holds], None],
        replaced: Callable[[], None],
        wall: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,  # no secret: a moment
    ) -> None:
        """`send` says to the NCO, `replaced` is called when new credentials are on the disk."""
        self._credentials = credentials
        self._name = name
        self._send = send
        self._replaced = replaced
        self._wall = wall
        self._uniform = uniform
        self._answer: asyncio.Future[Renewed] | None = None
        self._held: Holds | None = None
        """What is on the disk, once it was read."""
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Renew again and again, until cancelled."""
        current = await asyncio.to_thread(self._life)
        self._held = await asyncio.to_thread(holds, self._credentials)
        self.tell()
        due = current.due_in(self._wall(), self._draw())
        while True:
            await _sleep(due, self._wanted)
            self._wanted.clear()
            renewed = await self._renew(min(ANSWER_SECONDS, 5 * current.retry))
            current = renewed or current
            due = current.length * self._draw() if renewed else current.retry

    def take(self, message: Renewed | RenewNow) -> None:
        """Take the NCO's wish, or its answer; one that nobody waits for is nothing."""
        if isinstance(message, RenewNow):
            self._wanted.set()
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def tell(self) -> None:
        """Tell the NCO what is on the disk: a session has begun, or it has changed."""
        if self._held is not None:
            self._send(self._held)

    async def _renew(self, patience: float) -> Life | None:
        """Ask once, and wait so many seconds; return the life of the new certificate, or None."""
        key = credential_files.new_key()
        self._answer = asyncio.get_running_loop().create_future()
        self._send(Renew(request=credential_files.signing_request(key, self._name)))
        try:
            async with asyncio.timeout(patience):
                renewed = await self._answer
            fresh = await asyncio.to_thread(
                install, self._credentials, renewed, credential_files.key_pem(key)
            )
            held = await asyncio.to_thread(holds, self._credentials)
            self._replaced()
            self._held = held
            self.tell()
        except TimeoutError:
            log.debug("certificate not renewed: no answer")  # there may be no session
            return None
        except (IdentityError, OSError) as error:
            log.error("certificate not renewed reason=%r", str(error))
            return None
        finally:
            self._answer = None
        log.info("certificate renewed lifetime_seconds=%.0f", fresh.length)
        return fresh

    def _life(self) -> Life:
        return life(self._credentials.certificate.read_bytes())

    def _draw(self) -> float:
        return self._uniform(EARLIEST, LATEST)


def install(credentials: Credentials, renewed: Renewed, key: bytes) -> Life:
    """Write what the NCO has answered over the credentials of before; return its life.

    Raises IdentityError where it is no use, OSError where the disk does not take it; the old ones
    are whole then.
    """
    if renewed.error is not None or not renewed.certificate:
        raise IdentityError(f"the NCO refuses: {renewed.error or 'it gives no reason'}")
    try:
        if not credential_files.is_for(renewed.certificate, key):
            raise IdentityError("the NCO's certificate is not for the key that was made here")
        if renewed.ca:
            x509.load_pem_x509_certificates(renewed.ca)
        fresh = life(renewed.certificate)
    except ValueError as error:
        raise IdentityError(f"the NCO sent what is no certificate: {error}") from error
    credential_files.replace(credentials, key=key, certificate=renewed.certificate, ca=renewed.ca)
    return fresh


def holds(credentials: Credentials) -> Holds:
    """Return what the NCO is told of credentials on the disk; raises OSError, IdentityError."""
    try:
        trusted = x509.load_pem_x509_certificates(credentials.ca.read_bytes())
        own = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    except ValueError as error:
        raise IdentityError(f"{credentials.folder}: {error}") from error
    issuers = [authority_id(one) for one in trusted if _has_issued(one, own)]
    return Holds(
        authorities=[authority_id(one) for one in trusted[:MAX_AUTHORITIES]],
        issuer=issuers[0] if issuers else None,
    )


def _has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


async def _sleep(seconds: float, wanted: asyncio.Event) -> None:
    """Sleep until something is wanted, also through a suspension of the machine.

    That is not counted by asyncio's clock.
    """
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    while (left := until - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wanted.wait(), min(left, MAX_RETRY))
            return
