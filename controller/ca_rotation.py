"""Replaces the NCO's certification authority; `controller.authorities` has the steps.

The next step is taken by itself once no host would lose its way back by it: what hosts said they
have (`controller.holders`) decides, never a clock. Connected hosts that do not have what they
should are asked to renew, a few at a time.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from math import inf
from typing import Protocol

from controller import authorities, ca
from controller.audit import AuditLog, Entry
from controller.authorities import Authorities, Phase, Rotation, Stage
from controller.config import ConfigError, NcoConfig, StateFolder
from controller.errors import Conflict, Refusal, Unavailable
from controller.identities import Identities
from wire.identity import IdentityError
from wire.messages import Holds, RenewNow

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

ASK_AT_ONCE = 100
"""Hosts that are asked to renew in one look: each makes us sign and commit."""

ASK_AGAIN = 30.0
"""Seconds after which a host is asked again; twice as many each time, as some can never comply."""

SELDOM = 0.25
"""Of a certificate's lifetime may go by until a host is asked again, at most."""

ENROLMENT_WAITS = 150
"""Tenths of a second that who enrols may take, before a step is given up."""

WARN_BEFORE = timedelta(days=180)
"""How long before the authority expires somebody should replace it."""

WARN_EVERY = 86400.0
"""Seconds after which it is said again."""


class Link(Protocol):
    """A connection to an agent."""

    def send(self, message: RenewNow) -> None:
        """Send without waiting."""


@dataclass(frozen=True)
class Missing:
    """A host without which the next step is not taken, and why."""

    host: str
    connected: bool
    reason: str


@dataclass(frozen=True)
class _Asked:
    """When a host was asked last, and for how long it is not asked again; seconds."""

    at: float = -inf
    wait: float = 0.0


class CaRotation:
    """See the module's text; `run` it until cancelled. Called from one thread."""

    def __init__(
        self,
        state: StateFolder,
        config: NcoConfig,
        identities: Identities,
        audit: AuditLog,
        put_in_force: Callable[[Authorities], Awaitable[None]],
    ) -> None:
        """`put_in_force` makes the disk, the listeners and `identities` be as they should.

        Where it raises, nothing in memory has changed, and doing the same again helps.
        """
        self.observers: list[Callable[[dict[str, str]], None]] = []
        """Are told what is to be warned of: text by authority."""
        self._state = state
        self._config = config
        self._identities = identities
        self._audit = audit
        self._put_in_force = put_in_force
        self._links: dict[str, Link] = {}
        self._lacking: set[str] = set()
        """Connected hosts that do not have what they should."""
        self._asked: dict[str, _Asked] = {}
        """Of hosts since the last step, by a clock that nobody sets."""
        self._changing = asyncio.Lock()
        self._warned: dict[str, str] | None = None
        self._warn_at = 0.0

    @property
    def authorities(self) -> Authorities:
        """Those that are in force."""
        return self._identities.authorities

    def missing(self) -> list[Missing]:
        """Return the hosts that, for all one knows, would lose their way back by the next step."""
        rotation = self.authorities.rotation
        if rotation is None:
            return []
        return [
            Missing(host, host in self._links, self._reason(host, rotation))
            for host in sorted(self._missing(rotation))
        ]

    def _missing(self, rotation: Rotation) -> Iterator[str]:
        return (host for host in self._identities.hosts() if self._lacks(host, rotation))

    # -- what operators ask for

    async def begin(self) -> None:
        """Make a new authority, and begin to make it known; raises Refusal."""
        async with self._changing:
            if self.authorities.rotation is not None:
                raise Conflict(
                    "the CA is being replaced already: `nco ca show` says how far that is, "
                    "`nco ca rotate --abort` turns it back"
                )
            await self._note_hosts_added()
            try:
                new = await asyncio.to_thread(
                    authorities.make, self._config, datetime.now(UTC), self.authorities.signing
                )
            except ConfigError as error:
                raise Unavailable(f"no new CA can be made: {error}") from error
            await self._change(self.authorities.begun(new), f"{new.name} is made known to hosts")

    async def finish(self, seen: Stage | None) -> list[Missing]:
        """Take the next step now; return the hosts that lose their way back.

        Raises Refusal, also where it is not as who asks has `seen` it.
        """
        async with self._changing:
            return await self._step(self._under_way(seen), forced=True)

    async def abort(self, seen: Stage | None) -> None:
        """Turn back, or, where it goes back already, forward again.

        Raises Refusal, also where it is not as who asks has `seen` it.
        """
        async with self._changing:
            rotation = self._under_way(seen)
            turned = self.authorities.turned(rotation)
            what = "the replacement turns" if turned.rotation else f"{rotation.other.name} goes"
            await self._change(turned, f"{what}, as it was asked for")

    # -- what hosts do

    def arrived(self, host: str, link: Link) -> None:
        """Take note of the connection of a host that was let in."""
        self._links[host] = link
        self._lacking.discard(host)  # until it says what it has

    def left(self, host: str, link: Link) -> None:
        """Take note that this connection has ended."""
        if self._links.get(host) is link:
            del self._links[host]
            self._lacking.discard(host)

    async def told(self, host: str, link: Link, holds: Holds) -> None:
        """Take note of what a host says it has."""
        if self._links.get(host) is not link:
            return  # it may have been enrolled anew since
        self._look_at(host, holds)
        await self._identities.holders.told(host, holds)

    # -- what it does by itself

    async def run(self) -> None:
        """Look again and again, until cancelled; a fault in here ends nothing else."""
        while True:
            try:
                await self.look()
            except Refusal as error:
                log.error("the CA is not replaced yet: %s", error)
                await asyncio.sleep(5 * LOOK_SECONDS)
            except Exception:
                log.exception("the CA: this look failed")
                await asyncio.sleep(5 * LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take the next step if nobody loses by it; ask hosts to renew; warn."""
        async with self._changing:
            rotation = self.authorities.rotation
            if rotation is not None and not any(self._missing(rotation)):
                await self._step(rotation, forced=False)
        now = time.monotonic()
        self._ask(now)
        self._warn(self.warnings(datetime.now(UTC)), now)

    def warnings(self, now: datetime) -> dict[str, str]:
        """Return what somebody should know of the authority that issues."""
        signing = self.authorities.signing
        left = signing.certificate.not_valid_after_utc - now
        if left > WARN_BEFORE:
            return {}
        day = f"{signing.certificate.not_valid_after_utc:%Y-%m-%d}"
        return {
            signing.name: f"{signing.name} expires on {day}, in {left.days} days; after that no "
            "host believes this NCO: `nco ca rotate` replaces it"
        }

    def _warn(self, texts: dict[str, str], now: float) -> None:
        """Tell what is to be warned of: when it is new, and every day."""
        if texts == self._warned and now < self._warn_at:
            return
        self._warned, self._warn_at = texts, now + WARN_EVERY
        for text in texts.values():
            log.warning("%s", text)
        for observer in self.observers:
            observer(texts)

    def _ask(self, now: float) -> None:
        """Have connected hosts renew that do not have what they should."""
        longest = max(ASK_AGAIN, SELDOM * self._config.certificate_lifetime)
        asked = {host: self._asked.get(host, _Asked()) for host in self._lacking}
        due = (host for host, last in asked.items() if now - last.at >= last.wait)
        for host in nsmallest(ASK_AT_ONCE, due, key=lambda host: asked[host].at):
            wait = min(max(ASK_AGAIN, 2 * asked[host].wait), longest)
            self._asked[host] = _Asked(now, wait)
            self._identities.wanted.add(host)
            self._links[host].send(RenewNow())

    def _look_at(self, host: str, holds: Holds) -> None:
        up_to_date = (
            frozenset(holds.authorities) == self.authorities.ids
            and holds.issuer == self.authorities.signing.id
        )
        if up_to_date:
            self._lacking.discard(host)
        elif host in self._links:
            self._lacking.add(host)

    def _lacks(self, host: str, rotation: Rotation) -> bool:
        """Whether a host needs something before the next step."""
        held = self._identities.holders.of(host)
        if rotation.phase == Phase.RETIRE:
            return held.issuer != self.authorities.signing.id
        if rotation.goes_back and not self._identities.holders.is_known(host):
            return False  # it has what it had before there was another one
        return rotation.other.id not in held.trusts

    def _reason(self, host: str, rotation: Rotation) -> str:
        if rotation.phase == Phase.SPREAD:
            reason = f"has not said that it trusts {rotation.other.name}"
        else:
            reason = f"has not said that its certificate is of {self.authorities.signing.name}"
        if self._identities.has_lapsed(host):
            reason += f"; its certificate has expired: `nco host revoke {host}`, or let it enrol"
        elif not self._identities.holders.is_known(host):
            reason += "; nor anything else: it never connected, or its agent is of an older version"
        return reason

    def _under_way(self, seen: Stage | None) -> Rotation:
        rotation = self.authorities.rotation
        if rotation is None:
            raise Conflict("the CA is not being replaced: `nco ca rotate` begins it")
        if rotation.stage != seen:  # it went on by itself, or is asked for twice
            way = ", going back" if rotation.goes_back else ""
            raise Conflict(
                f"nothing was done: the replacement is in phase {rotation.phase.value}{way}, and "
                "this was not asked for there; look at `nco ca show`, then ask again"
            )
        return rotation

    async def _step(self, rotation: Rotation, *, forced: bool) -> list[Missing]:
        """Take the next step, unless somebody would lose by it; return who does.

        Raises Refusal.
        """
        self._identities.is_switching = rotation.phase == Phase.SPREAD
        try:
            await self._nobody_enrols()
            await self._note_hosts_added()
            missing = self.missing()
            if forced or not missing:
                await self._take_step(rotation)
            return missing
        finally:
            self._identities.is_switching = False

    async def _take_step(self, rotation: Rotation) -> None:
        name = rotation.other.name
        if rotation.phase == Phase.SPREAD:
            await self._change(self.authorities.switched(rotation), f"{name} issues from now on")
        else:
            await self._change(self.authorities.alone(), f"{name} is trusted no more")

    async def _nobody_enrols(self) -> None:
        """Wait until nobody is being enrolled with the authority that issues now."""
        for _ in range(ENROLMENT_WAITS):
            if not (self._identities.is_switching and self._identities.enrolling):
                return
            await asyncio.sleep(0.1)
        raise Unavailable("hosts are enrolling, and their certificates are not stored yet")

    async def _change(self, after: Authorities, text: str) -> None:
        """Put these in force, and write that down; raises Refusal."""
        try:
            await self._put_in_force(after)
        except (ConfigError, IdentityError, OSError, ssl.SSLError) as error:
            raise Unavailable(f"the state folder cannot be changed: {error}") from error
        self._asked.clear()
        holders = self._identities.holders
        self._lacking = {h for h in self._links if not holders.of(h).is_up_to_date(after)}
        log.warning("CA: %s", text)
        try:
            await self._audit.add(Entry("CA replaced", after.signing.name, detail=text))
        except Refusal as error:
            log.error("audit log not written: %s", error)

    async def _note_hosts_added(self) -> None:
        """Count hosts in that got their credentials offline, and have not connected yet."""
        try:
            added = await asyncio.to_thread(ca.hosts_added, self._state)
        except OSError as error:
            raise Unavailable(
                f"which hosts `nco host add` has added cannot be read ({error}): let the user of "
                f"the service read {self._state.hosts_added} and what is in it"
            ) from error
        await asyncio.gather(*map(self._identities.seen, added))  # stored all together
