"""What can be challenged, as the orchestrator knows it; the one place where the two meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controller.challenger import Subject
from controller.orchestrator import Orchestrator
from controller.policy import Policy, effective


class ChallengeSource:
    """The customizations of the orchestrator's hosts."""

    def __init__(
        self, orchestrator: Orchestrator, policy: Callable[[], Policy], every: float | None
    ) -> None:
        """Challenge as intents and `policy` ask; `every` so many seconds where neither does."""
        self._orchestrator = orchestrator
        self._policy = policy
        self._every = every

    def asks(self) -> bool:
        """Whether intents, policy or settings want anything challenged again and again."""
        return any(self._intervals().values())

    def subjects(self) -> Iterator[Subject]:
        """Yield what connected hosts should have."""
        every = self._intervals()
        for name, host in self._orchestrator.cib.hosts().items():
            now = self._orchestrator.now(name)
            if not now.connected:
                continue
            reported = {status.id for status in now.report.customizations} if now.report else set()
            settled = now.report is not None and now.report.generation == now.generation
            for one in host.customizations:
                yield Subject(
                    host=name,
                    customization=one.id,
                    intent=one.intent,
                    module=one.module,
                    target=one.target,
                    digest=one.digest,
                    kernel=host.kernel,
                    key=one.key,
                    every=every.get(one.intent),
                    confirmed=settled and one.id in reported,
                )

    def failed(self, subject: Subject, reason: str) -> None:
        """Revoke it on both ends."""
        self._orchestrator.challenge_failed(subject.host, subject.customization, reason)

    def _intervals(self) -> dict[str, float | None]:
        policy = self._policy()
        return {
            row.name: effective(policy, row.intent).security.challenge_every or self._every
            for row in self._orchestrator.cib.intents()
        }
