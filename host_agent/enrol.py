"""`dca enrol`: from a one-time token to credentials; `wire.enrol` has the protocol."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from host_agent.channel import explain
from host_agent.renewal import life
from wire import credential_files, frames
from wire.enrol import (
    FROM_NCO,
    MAX_FRAME,
    Authorities,
    Enrol,
    Enrolled,
    Token,
    authorities,
    fingerprint,
)
from wire.frames import FrameError, FrameReader
from wire.identity import NCO_NAME, Credentials
from wire.messages import MessageError, dump, parse

M = TypeVar("M", Authorities, Enrolled)

STEP_SECONDS = 10.0
"""For connecting, and for each message."""

TRIES = 3
"""An answer may be lost; the NCO gives it again to who holds the same key."""


class EnrolmentError(Exception):
    """The host has no credentials; the text says why and what to do."""


class _LostError(EnrolmentError):
    """The connection failed: trying again may help."""


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self, kind: type[M]) -> M:
        """Return the next message, which has to be of a kind."""
        incoming = FrameReader(MAX_FRAME)
        while data := await self.reader.read(65536):
            for value in incoming.feed(data):
                message = parse(FROM_NCO, value)
                if not isinstance(message, kind):
                    raise EnrolmentError("what answers there is not an NCO's port for enrolment")
                return message
        raise _LostError("the NCO closed the connection: it has too much to do, or is ending")


@dataclass(frozen=True)
class Granted:
    """What a host was granted, beside its credentials."""

    expires: float
    """When its certificate does: Unix time in seconds."""
    nco: str
    """Where its agent finds the NCO."""


async def enrol(token: Token, credentials: Credentials) -> Granted:
    """Write the credentials that the token stands for.

    Raises EnrolmentError, and leaves the folder as it was.
    """
    key = credential_files.new_key()
    request = credential_files.signing_request(key, token.host)
    for attempt in range(TRIES):
        try:
            ca, answer = await _ask(token, request)
            break
        except _LostError:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(2**attempt / 4)
    if answer.error is not None:
        raise EnrolmentError(f"the NCO refuses: {answer.error}")
    pem = credential_files.key_pem(key)
    if not credential_files.is_for(answer.certificate, pem):
        raise EnrolmentError("the NCO's certificate is not for the key that was made here")
    try:
        credential_files.replace(
            credentials, key=pem, certificate=answer.certificate, ca=ca, signer=answer.signer
        )
    except OSError as error:
        raise EnrolmentError(
            f"{credentials.folder}: {error.strerror}; the token is used up, "
            f"`nco host token {token.host}` makes another"
        ) from error
    return Granted(life(answer.certificate).expires, answer.control or token.address)


async def _ask(token: Token, request: bytes) -> tuple[bytes, Enrolled]:
    """Return the authorities and the answer."""
    ca = await _authorities(token)
    context = _context()
    context.load_verify_locations(cadata=ca.decode("ascii"))
    wish = Enrol(host=token.host, secret=token.secret, request=request)
    async with _connected(token, context, 3 * STEP_SECONDS) as connection:
        await connection.receive(Authorities)
        connection.writer.write(frames.encode(dump(wish)))
        return ca, await connection.receive(Enrolled)


async def _authorities(token: Token) -> bytes:
    """Return what the NCO says are its authorities, once it is what the token says.

    Whoever answers here is believed nothing but this.
    """
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with _connected(token, context, 2 * STEP_SECONDS) as connection:
        told = await connection.receive(Authorities)
    return _expected(token, told.ca)


def _expected(token: Token, ca: bytes) -> bytes:
    """Return the authorities that the token stands for, and nothing that came with them."""
    try:
        told = authorities(ca)
        found = fingerprint(told)
    except ValueError:
        told, found = b"", b""
    if not hmac.compare_digest(found, token.fingerprint):
        raise EnrolmentError(
            f"what answers at {token.address}:{token.port} is not the NCO that made this token, or "
            "its CA was rotated since: nothing was sent to it; make another token there"
        )
    return told


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@asynccontextmanager
async def _connected(
    token: Token, context: ssl.SSLContext, seconds: float
) -> AsyncIterator[_Connection]:
    """Connect to the NCO for a block, which has so many seconds; raises EnrolmentError."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                token.address,
                token.port,
                ssl=context,
                server_hostname=NCO_NAME,
                ssl_shutdown_timeout=1,
            )
            try:
                yield _Connection(reader, writer)
            finally:
                writer.close()
    except (OSError, FrameError, MessageError) as error:
        raise _explained(token, error) from error


def _explained(token: Token, error: Exception) -> EnrolmentError:
    kind = EnrolmentError if isinstance(error, ssl.SSLCertVerificationError) else _LostError
    return kind(f"{token.address}:{token.port}: {explain(error)}")
