"""Asks hosts, again and again, to prove that they run what they say; pure but for its clock.

Theory of operation. A *subject* is a customization that a connected host should have. It is asked
first shortly after its host has confirmed it, then every `Subject.every` seconds from one answer to
the next question, or when an operator asks; also where the host no longer confirms it. At most one
challenge of each is open. The answer must be over the question's nonce, the customization's key,
and the code that was built:

* `kmod`: the kernel answers over the build id that it read itself, which must be that of the
  artifact.
* `bpf`: the agent answers over the tags of the programs that the kernel reports. The tags of an
  artifact depend on the kernel that loaded it, so they are learnt: the first answer for an artifact
  and a kernel release is believed, kept in the CIB, and everyone's from then on.

A wrong answer, none within the window, and one that says why there is none, are failures; who
hears of them revokes. Of a subject that is gone meanwhile (no longer wanted, its host disconnected)
there is no verdict; a host that comes back is asked anew. But one that goes each time it is asked
is as silent as one that stays and says nothing.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from wire import challenge
from wire.messages import Challenge, ChallengeAnswer, Target

NONCE_SIZE = 32

SOON = 5.0
"""Seconds within which a new subject is asked first: a moment is drawn."""

TAUGHT = 64
"""What is believed at most because one host said it first; the oldest of it is forgotten."""

EVADED = 3
"""Questions in a row from which a host may go away without an answer: connections do break."""

EVASIONS_KEPT = 4096
"""Customizations of which it is known that their hosts went away."""


class Verdict(StrEnum):
    """What became of a challenge."""

    PASSED = "passed"
    WRONG = "wrong"
    """The answer is not the right one, or is over other code."""
    REFUSED = "refused"
    """The host says why it has no answer."""
    SILENT = "silent"
    """Nothing came within the window."""


@dataclass(slots=True)
class Subject:
    """A customization that a connected host should have.

    Never changed; not frozen, as one for each host is made at a look, and that costs thrice.
    """

    host: str
    customization: str
    intent: str
    module: str
    target: Target
    digest: str
    """Of its artifact."""
    kernel: str
    """The host's kernel release."""
    key: bytes = field(repr=False)
    every: float | None
    """Seconds between two challenges; None: only when an operator asks."""
    confirmed: bool = True
    """Whether its host says that it has it."""

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.host, self.customization


@dataclass(frozen=True)
class Outcome:
    """A verdict, and what it is about."""

    subject: Subject
    verdict: Verdict
    text: str
    """In words."""
    strength: str = ""
    """Who computed the answer: `kernel` or `agent`."""


@dataclass(frozen=True)
class Learnt:
    """Evidence that was believed because it was the first."""

    digest: str
    kernel: str
    evidence: bytes
    host: str = ""
    """From whom."""


@dataclass
class _Open:
    nonce: bytes
    until: float


@dataclass
class _State:
    due: float | None = None
    """None until its host has confirmed it."""
    asked: _Open | None = None


class Challenger:
    """See the module's text; times are seconds of a clock that never goes back."""

    def __init__(
        self,
        *,
        window: float,
        build_id: Callable[[str], bytes | None],
        known: Iterable[Learnt] = (),
        nonce: Callable[[], bytes] = lambda: secrets.token_bytes(NONCE_SIZE),
        uniform: Callable[[float, float], float] = random.uniform,  # no secret: a moment
    ) -> None:
        """`build_id` gives that of an artifact by its digest; `known` is what was learnt before."""
        self._window = window
        self._build_id = build_id
        self._learnt = {(one.digest, one.kernel): one for one in known}
        """What was learnt last stands last."""
        self._nonce = nonce
        self._uniform = uniform
        self._states: dict[tuple[str, str], _State] = {}
        self._subjects: dict[tuple[str, str], Subject] = {}
        self._of_host: dict[str, list[tuple[str, str]]] = {}
        self._evaded: dict[tuple[str, str], int] = {}
        """Questions in a row that ended with the connection."""

    @property
    def is_busy(self) -> bool:
        """Whether something was asked, or is to be, or a host has gone away too often."""
        return any(
            state.asked is not None or state.due is not None for state in self._states.values()
        ) or any(times >= EVADED for times in self._evaded.values())

    def look(
        self, subjects: Iterable[Subject], now: float
    ) -> tuple[list[tuple[str, Challenge]], list[Outcome]]:
        """Take the subjects that there are; return what to ask whom, and who was silent."""
        self._subjects = {subject.name: subject for subject in subjects}
        self._states = {name: self._states.get(name) or _State() for name in self._subjects}
        self._of_host = {}
        for name, state in self._states.items():
            self._of_host.setdefault(name[0], []).append(name)
            self._plan(state, self._subjects[name], now)
        silent = self._evasive(now)
        silent += [
            self._conclude(name, now, Verdict.SILENT, f"no answer within {self._window:g} s")
            for name, state in self._states.items()
            if state.asked is not None and now >= state.asked.until
        ]
        due = [
            name
            for name, state in self._states.items()
            if state.asked is None and state.due is not None and now >= state.due
        ]
        return [self._ask(name, now) for name in due], silent

    def demand(self, now: float, wanted: Callable[[Subject], bool]) -> list[Subject]:
        """Have the wanted subjects asked with the next look; return them."""
        found = [subject for subject in self._subjects.values() if wanted(subject)]
        for subject in found:
            self._states[subject.name].due = now
        return found

    def answered(
        self, host: str, answer: ChallengeAnswer, now: float
    ) -> tuple[Outcome | None, Learnt | None]:
        """Judge an answer; None where nothing was asked, or something else."""
        name = (host, answer.customization)
        state, subject = self._states.get(name), self._subjects.get(name)
        if state is None or subject is None or state.asked is None:
            return None, None
        if state.asked.nonce != answer.nonce:
            return None, None
        if answer.error is not None:
            text = f"the host says: {answer.error[:500]}"
            return self._conclude(name, now, Verdict.REFUSED, text), None
        expected = self._expected(subject)
        fault = _fault(subject, answer, expected)
        if fault is not None:
            fault += self._said_first_by(subject) if answer.evidence != expected else ""
            return self._conclude(name, now, Verdict.WRONG, fault, answer.strength), None
        learnt = None
        if expected is None:
            learnt = Learnt(subject.digest, subject.kernel, answer.evidence, host)
            self._learn(learnt)
        text = "the answer is right" if learnt is None else "the answer is right, its code learnt"
        return self._conclude(name, now, Verdict.PASSED, text, answer.strength), learnt

    def left(self, host: str) -> None:
        """Take note that a host's connection has ended: what was asked on it has no answer."""
        for name in self._of_host.get(host, ()):
            state = self._states[name]
            if state.asked is not None:
                state.asked = state.due = None
                self._evaded[name] = self._evaded.pop(name, 0) + 1
        while len(self._evaded) > EVASIONS_KEPT:
            del self._evaded[next(iter(self._evaded))]

    def unlearn(self, host: str) -> None:
        """Believe nothing any more because this host said it."""
        self._learnt = {name: one for name, one in self._learnt.items() if one.host != host}

    def next_look(self, now: float) -> float | None:
        """Return in how many seconds something is due; None where nothing is."""
        moments = [s.asked.until if s.asked else s.due for s in self._states.values()]
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - now) if due else None

    def _evasive(self, now: float) -> list[Outcome]:
        """Conclude about who is here again after going away from too many questions."""
        text = f"its host has gone away from {EVADED} questions in a row without an answer"
        names = [name for name, times in self._evaded.items() if times >= EVADED]
        return [
            self._conclude(name, now, Verdict.SILENT, text)
            for name in names
            if name in self._subjects
        ]

    def _plan(self, state: _State, subject: Subject, now: float) -> None:
        """Say when to ask, of a subject that can be asked now and could not before."""
        if state.due is None and state.asked is None and subject.every and subject.confirmed:
            state.due = now + self._uniform(0, min(SOON, subject.every))

    def _ask(self, name: tuple[str, str], now: float) -> tuple[str, Challenge]:
        nonce = self._nonce()
        self._states[name].asked = _Open(nonce, now + self._window)
        host, customization = name
        return host, Challenge(customization=customization, nonce=nonce)

    def _conclude(
        self, name: tuple[str, str], now: float, verdict: Verdict, text: str, strength: str = ""
    ) -> Outcome:
        state, subject = self._states[name], self._subjects[name]
        self._evaded.pop(name, None)
        state.asked = None
        state.due = now + subject.every if subject.every else None
        return Outcome(subject, verdict, text, strength)

    def _expected(self, subject: Subject) -> bytes | None:
        """Return what the code has to be known by; None where that is still to be learnt.

        Of a kernel object whose build id is not known nothing can be right.
        """
        if subject.target == "kmod":
            return self._build_id(subject.digest) or b"?"
        learnt = self._learnt.get((subject.digest, subject.kernel))
        return learnt.evidence if learnt else None

    def _said_first_by(self, subject: Subject) -> str:
        """Return on whose word other evidence is wrong: it may be that one who has other code."""
        learnt = self._learnt.get((subject.digest, subject.kernel))
        return f", as {learnt.host} was the first to say" if learnt and learnt.host else ""

    def _learn(self, learnt: Learnt) -> None:
        """Keep it, and no more of one host than `TAUGHT`: kernel releases are what hosts say."""
        self._learnt[learnt.digest, learnt.kernel] = learnt
        own = [name for name, one in self._learnt.items() if one.host == learnt.host]
        for name in own[:-TAUGHT]:
            del self._learnt[name]


def _fault(subject: Subject, answer: ChallengeAnswer, expected: bytes | None) -> str | None:
    """Return why an answer is not the right one, or None."""
    if subject.target == "kmod" and answer.strength != "kernel":
        return "the agent has answered in the kernel's place"
    if not answer.evidence:
        return "the answer is over no code"
    if expected is not None and answer.evidence != expected:
        return (
            f"the host runs other code than was built: {answer.evidence.hex()} instead of "
            f"{expected.hex()}"
        )
    asked = challenge.Challenge(subject.key, answer.nonce, subject.customization, answer.evidence)
    return None if asked.is_answered(answer.answer) else "the answer is not the right one"
