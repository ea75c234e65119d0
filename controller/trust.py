"""Trust, put together: identities of hosts, enrolment, callers' tokens, the audit log.

The control channel asks here whom to let in (`controller.control.Guard`), the REST API asks here
for everything about who belongs to the network.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from controller import authorities, ca
from controller.access import Authenticate, Caller, token_caller
from controller.artifacts import ArtifactStore
from controller.audit import AuditLog, Entry
from controller.audit_trail import refusal
from controller.authorities import Authorities
from controller.ca_rotation import CaRotation
from controller.certificates import Authority
from controller.challenges import Challenges, Source
from controller.config import ConfigError, NcoConfig, StateFolder, split_endpoint
from controller.database import Database
from controller.enrol import Enrolment, EnrolServer
from controller.errors import Refusal
from controller.identities import Identities, Validity
from controller.limits import FailureLimit
from controller.orchestrator import Link
from controller.tokens import ApiTokens
from wire import credential_files
from wire.identity import NCO_NAME, Credentials, IdentityError, PeerCertificate
from wire.messages import ChallengeAnswer, Holds, Renewed

log = logging.getLogger(__name__)

PRUNE_SECONDS = 600.0
"""Between two prunings of the audit log."""

RETRY_SECONDS = 60.0
"""After which the service tries again to renew its own certificate."""

FAILURES, FAILURES_PER_SECOND = 10.0, 0.1
"""Requests without a good token that one address has, at once and from then on."""

REFUSALS, REFUSALS_PER_SECOND = 20.0, 1 / 60
"""Requests beyond its role that are written down of one caller, at once and from then on."""


class Trust:
    """See the module's text. `open` it, `start` it, then `run` it until cancelled."""

    def __init__(
        self,
        state: StateFolder,
        config: NcoConfig,
        database: Database,
        *,
        artifacts: ArtifactStore,
        source: Source,
        cut: Callable[[str, str], object],
    ) -> None:
        """Use the keys in `state`; `cut` ends the session of a host, with a reason.

        `source` has what can be challenged, compiled from `artifacts`. Raises ConfigError and
        IdentityError.
        """
        self._state = state
        self._config = config
        self._cut = cut
        self._lifetime = timedelta(seconds=config.certificate_lifetime)
        self._files = asyncio.Lock()
        """Held while the service's own credentials, or its authorities, are written."""
        credential_files.finish(state.credentials)
        found = authorities.load(state, config)
        if found.rotation:
            authorities.follow(state, found)
        self._due = self._renew_own(found.signing)
        identity = ca.load_identity(state, NCO_NAME)
        validity = Validity(config.certificate_lifetime, config.certificate_grace)
        self.control_context = state.credentials.server_context()
        self.open_context = state.credentials.open_context()
        self.audit = AuditLog(database, time.time, config.audit_keep)
        self.tokens = ApiTokens(database, time.time)
        self.identities = Identities(database, found, validity, time.time)
        self.enrolment = Enrolment(
            database,
            self.identities,
            identity.signer,
            control=config.control,
            clock=time.time,
            cut=cut,
        )
        self.challenges = Challenges(
            database, artifacts, self.audit, source, config.challenge_window
        )
        self.rotation = CaRotation(state, config, self.identities, self.audit, self._put_in_force)
        self._enrol_server = EnrolServer(self.enrolment, self.open_context)
        self._failures = FailureLimit(
            time.monotonic, allowed=FAILURES, per_second=FAILURES_PER_SECOND
        )
        self._refusals = FailureLimit(
            time.monotonic, allowed=REFUSALS, per_second=REFUSALS_PER_SECOND
        )
        self._writing: set[asyncio.Task[None]] = set()
        self.enrol_port = 0
        self.rest_listener: socket.socket | None = None

    async def start(self) -> None:
        """Read what is in the CIB, and listen for hosts that enrol; raises OSError, Refusal."""
        await self.identities.load()
        await self.tokens.load()
        await self.challenges.load()
        _, self.enrol_port = self._enrol_server.start(*self._config.enrol_endpoint)
        if self._config.rest is not None:
            self.rest_listener = socket.create_server(split_endpoint(self._config.rest))

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._enrol_server.run())
            tasks.create_task(self._keep_fresh())
            tasks.create_task(self.challenges.run())
            tasks.create_task(self.rotation.run())
            tasks.create_task(self._prune())

    @property
    def rest_port(self) -> int | None:
        """Where callers with tokens are served, if they are."""
        return self.rest_listener.getsockname()[1] if self.rest_listener else None

    # -- for the control channel

    def refusal(self, certificate: PeerCertificate) -> str | None:
        """Return why a certificate is not accepted now, or None."""
        return self.identities.refusal(certificate)

    async def seen(self, certificate: PeerCertificate) -> None:
        """Take note of a certificate with which a host was let in."""
        try:
            await self.identities.seen(certificate)
        except Refusal as error:  # not needed to revoke it: it was made before
            log.warning("host=%s certificate not noted: %s", certificate.name, error)

    async def renew(self, host: str, request: bytes) -> Renewed:
        """Answer a request for a new certificate."""
        return await self.identities.renew(host, request)

    async def told(self, host: str, link: Link, holds: Holds) -> None:
        """Take note of what credentials a host says it has."""
        await self.rotation.told(host, link, holds)

    def arrived(self, host: str, link: Link) -> None:
        """Take note of the connection of a host that was let in."""
        self.challenges.arrived(host, link)
        self.rotation.arrived(host, link)

    def left(self, host: str, link: Link) -> None:
        """Take note that this connection has ended."""
        self.challenges.left(host, link)
        self.rotation.left(host, link)

    def answered(self, host: str, answer: ChallengeAnswer) -> None:
        """Take note of what a host says to a challenge."""
        self.challenges.answered(host, answer)

    # -- for the REST API

    def now(self) -> float:
        """Return Unix time."""
        return time.time()

    def authenticate(self) -> Authenticate:
        """Return who knows callers by their tokens."""
        return token_caller(self.tokens, self._failures, self._alarm)

    async def enrol_token(self, host: str, valid: float) -> str:
        """Return a new token with which a host may enrol once."""
        address, _ = split_endpoint(self._config.control)
        return await self.enrolment.token(host, valid, (address, self.enrol_port))

    async def revoke_host(self, host: str, *, unseen: bool = False) -> tuple[int, bool]:
        """Cut a host off; return how many certificates it had, and whether it was connected.

        Raises NotFound where it was never heard of, but for `unseen`.
        """
        certificates = await self.identities.revoke(host, unseen=unseen)
        connected = bool(
            self._cut(
                host, f"host {host!r} was revoked: `nco host token {host}` lets it enrol anew"
            )
        )
        await self.challenges.unlearn(host)
        log.warning("host=%s revoked connected=%s", host, connected)
        return certificates, connected

    def refused(self, caller: Caller, method: str, path: str) -> None:
        """Write down what a caller's role does not allow, but not without end."""
        if self._refusals.is_exceeded(caller.name):
            return
        is_last = self._refusals.failed(caller.name)
        self._write(refusal(caller, method, path, is_last=is_last))

    # -- what it does by itself

    def _alarm(self, source: str) -> None:
        log.warning("from=%s many REST requests without a good token", source)
        entry = Entry(
            "callers without a good token",
            source,
            actor="unknown",
            source=source,
            outcome="refused",
        )
        self._write(entry)

    def _write(self, entry: Entry) -> None:
        task = asyncio.create_task(_quietly(self.audit.add(entry)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _keep_fresh(self) -> None:
        """Renew the service's own certificate; connections that stand go on."""
        while True:
            left = (self._due - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(min(max(left, 0.0), RETRY_SECONDS))  # clocks jump: look often
            try:
                async with self._files:
                    if self.identities.is_unsure:
                        await self._restore()
                    self._due = await asyncio.to_thread(self._renew_own, self._signing)
                    for context in (self.control_context, self.open_context):
                        _use(context, self._state.credentials)
            except (ConfigError, OSError, ssl.SSLError) as error:
                log.error("own certificate not renewed: %s", error)
                self._due = datetime.now(UTC) + timedelta(seconds=RETRY_SECONDS)

    @property
    def _signing(self) -> Authority:
        return self.identities.authorities.signing

    async def _put_in_force(self, changed: Authorities) -> None:
        """Write these authorities, show a certificate of theirs, then issue with them.

        Raises ConfigError, IdentityError and OSError, and has changed nothing in memory then.
        """
        async with self._files:
            try:
                self._due = await asyncio.to_thread(self._make_so, changed)
                context = await asyncio.to_thread(self._state.credentials.server_context)
                _use(self.open_context, self._state.credentials)
            except (ConfigError, IdentityError, OSError):
                await self._restore()
                raise
            self.control_context = context
            self.identities.authorities = changed
            self.identities.is_unsure = False

    async def _restore(self) -> None:
        """Have the disk say what is in force; as long as it may not, nobody enrols.

        Who did would trust that alone, and a service that is started again believes the disk.
        """
        self.identities.is_unsure = True
        try:
            self._due = await asyncio.to_thread(self._make_so, self.identities.authorities)
        except (ConfigError, IdentityError, OSError) as error:
            log.error("the disk may have another CA than is in force; nobody enrols: %s", error)
        else:
            self.identities.is_unsure = False

    def _make_so(self, changed: Authorities) -> datetime:
        """Have the disk be so; return when the service's own certificate is due."""
        credential_files.finish(self._state.credentials)  # or it undoes what is written here
        authorities.save(self._state, changed)
        return self._renew_own(changed.signing)

    def _renew_own(self, authority: Authority) -> datetime:
        return ca.renew_own(self._state, authority, self._lifetime, datetime.now(UTC))

    async def _prune(self) -> None:
        while True:
            await _quietly(self.audit.prune())
            await asyncio.sleep(PRUNE_SECONDS)


def _use(context: ssl.SSLContext, credentials: Credentials) -> None:
    context.load_cert_chain(credentials.certificate, credentials.key)


async def _quietly(work: object) -> None:
    try:
        await work  # type: ignore[misc]
    except Refusal as error:
        log.error("audit log not written: %s", error)
