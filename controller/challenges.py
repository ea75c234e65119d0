"""Challenges at work: `controller.challenger` with a clock, connections, and the CIB."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import Protocol

from sqlalchemy import delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from controller.artifacts import ArtifactStore
from controller.audit import AuditLog, Entry
from controller.challenger import TAUGHT, Challenger, Learnt, Outcome, Subject, Verdict
from controller.database import Base, Database
from controller.elf import build_id
from controller.errors import Refusal
from wire.messages import Challenge, ChallengeAnswer

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at what should be asked."""

SHORTEST = 0.05
"""Seconds between two looks at least, whatever is due."""

LOOK_SHARE = 10.0
"""How many times longer than a look the pause after it is: with very many hosts it takes a while,
and something is always due."""

MARGIN = 2 * LOOK_SECONDS
"""Added to the window where somebody waits for a verdict."""


class EvidenceRow(Base):
    """What the programs of an artifact are known by on a kernel release, learnt once."""

    __tablename__ = "evidence"

    digest: Mapped[str] = mapped_column(primary_key=True)
    kernel: Mapped[str] = mapped_column(primary_key=True)
    evidence: Mapped[bytes]
    learnt: Mapped[float]
    """Unix time in seconds."""
    host: Mapped[str]
    """From whom."""


class Source(Protocol):
    """Who knows what hosts should have, and takes away what they cannot prove."""

    def asks(self) -> bool:
        """Whether anything is to be challenged without an operator's asking."""

    def subjects(self) -> Iterable[Subject]:
        """Return what can be challenged now."""

    def failed(self, subject: Subject, reason: str) -> None:
        """Revoke a customization on both ends."""


class Link(Protocol):
    """A connection to an agent."""

    def send(self, message: Challenge) -> None:
        """Send without waiting."""


class Challenges:
    """See the module's text; `load`, then `run` until cancelled."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        audit: AuditLog,
        source: Source,
        window: float,
    ) -> None:
        """Give hosts `window` seconds for an answer."""
        self.observers: list[Callable[[Outcome], None]] = []
        """Are told of each outcome."""
        self._database = database
        self._artifacts = artifacts
        self._audit = audit
        self._source = source
        self._window = window
        self._challenger = self._new(())
        self._links: dict[str, Link] = {}
        self._waiting: dict[tuple[str, str], asyncio.Future[Outcome]] = {}
        self._wake = asyncio.Event()
        self._notes: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read what was learnt before."""
        query = select(EvidenceRow).order_by(EvidenceRow.learnt)
        rows = await self._database.read(lambda s: list(s.scalars(query)))
        self._challenger = self._new(Learnt(r.digest, r.kernel, r.evidence, r.host) for r in rows)

    def arrived(self, host: str, link: Link) -> None:
        """Take note of an agent's connection."""
        if host in self._links:
            self._challenger.left(host)  # from the older one, on which it may have been asked
        self._links[host] = link

    def left(self, host: str, link: Link) -> None:
        """Take note that a connection has ended."""
        if self._links.get(host) is link:
            del self._links[host]
            self._challenger.left(host)

    async def unlearn(self, host: str) -> None:
        """Believe nothing any more because this host said it; others are asked anew."""
        forget = delete(EvidenceRow).where(EvidenceRow.host == host)
        await self._database.submit(lambda session: session.execute(forget))
        self._challenger.unlearn(host)

    async def run(self) -> None:
        """Ask and judge until cancelled."""
        while True:
            began = time.monotonic()
            try:
                if self._source.asks() or self._challenger.is_busy:
                    self._look()
            except Exception:  # of one host's, must not end all others' service
                log.exception("challenges could not be looked at")
            due, took = self._challenger.next_look(time.monotonic()), time.monotonic() - began
            pause = LOOK_SECONDS if due is None else min(due, LOOK_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(pause, SHORTEST, LOOK_SHARE * took))
            self._wake.clear()

    def answered(self, host: str, answer: ChallengeAnswer) -> None:
        """Judge an answer."""
        outcome, learnt = self._challenger.answered(host, answer, time.monotonic())
        if learnt is not None and outcome is not None:
            self._in_background(self._learn(learnt, outcome))
        elif outcome is not None:
            self._tell(outcome)

    async def demand(self, name: str) -> list[Outcome]:
        """Challenge what the host or the intent of this name has, now; return what came of it."""
        self._look()
        found = self._challenger.demand(
            time.monotonic(), lambda subject: name in (subject.host, subject.intent)
        )
        loop = asyncio.get_running_loop()
        verdicts = [self._waiting.setdefault(s.name, loop.create_future()) for s in found]
        self._wake.set()
        if verdicts:
            await asyncio.wait(verdicts, timeout=self._window + MARGIN)
        outcomes = [verdict.result() for verdict in verdicts if verdict.done()]
        for subject, verdict in zip(found, verdicts, strict=True):
            if not verdict.done() and self._waiting.get(subject.name) is verdict:
                del self._waiting[subject.name]  # it is gone, or its host
        return outcomes

    def _look(self) -> None:
        questions, silent = self._challenger.look(self._source.subjects(), time.monotonic())
        for host, question in questions:
            if (link := self._links.get(host)) is not None:
                link.send(question)
        for outcome in silent:
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        subject = outcome.subject
        level = logging.DEBUG if outcome.verdict is Verdict.PASSED else logging.ERROR
        log.log(
            level,
            "host=%s intent=%s customization=%s challenge=%s reason=%r",
            *(subject.host, subject.intent, subject.customization, outcome.verdict, outcome.text),
        )
        waiting = self._waiting.pop(subject.name, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)
        if outcome.verdict is not Verdict.PASSED:
            self._in_background(self._note(outcome))
            self._revoke(outcome)
        for observer in self.observers:
            observer(outcome)

    def _revoke(self, outcome: Outcome) -> None:
        try:
            self._source.failed(outcome.subject, outcome.text)
        except Refusal as error:
            log.error("host=%s not revoked: %s", outcome.subject.host, error)

    async def _note(self, outcome: Outcome) -> None:
        subject = outcome.subject
        detail = f"{subject.module} of intent {subject.intent}: {outcome.text}"
        entry = Entry("challenge failed", subject.host, detail=detail, outcome="revoked")
        await self._audit.add(entry)

    async def _learn(self, learnt: Learnt, outcome: Outcome) -> None:
        """Keep what binds everyone from now on; nobody is told that it is right before."""
        row = {**asdict(learnt), "learnt": time.time()}
        try:
            await self._database.submit(lambda session: _keep(session, EvidenceRow(**row)))
        finally:
            self._tell(outcome)

    def _new(self, known: Iterable[Learnt]) -> Challenger:
        @functools.lru_cache(maxsize=256)
        def of_artifact(digest: str) -> bytes | None:
            artifact = self._artifacts.get(digest)
            return build_id(artifact.data) if artifact else None

        return Challenger(window=self._window, build_id=of_artifact, known=known)

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.create_task(_logged(work))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)


def _keep(session: Session, row: EvidenceRow) -> None:
    """Store what was learnt, and forget what is too much of one host."""
    session.merge(row)
    session.flush()
    own = select(EvidenceRow.learnt).where(EvidenceRow.host == row.host)
    oldest = session.scalar(own.order_by(EvidenceRow.learnt.desc()).offset(TAUGHT - 1).limit(1))
    if oldest is not None:
        session.execute(
            delete(EvidenceRow).where(EvidenceRow.host == row.host, EvidenceRow.learnt < oldest)
        )


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Refusal as error:
        log.error("the CIB has no note of a challenge: %s", error)
