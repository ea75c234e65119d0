"""The convergence logic: events in any order, and what must be true after each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from host_agent.converge import (
    Applied,
    Apply,
    Connected,
    Converger,
    Disconnected,
    Event,
    Failed,
    Observed,
    Output,
    Saved,
    Started,
    State,
)
from tests.unit.agent_kit import customization, desired, signed, status
from wire.artifact import verified
from wire.match import Match
from wire.messages import ArtifactData, Customization, Desired, Need, Report, Status

KEY = Ed25519PrivateKey.generate()
SIGNER = KEY.public_key()
A, B = signed(KEY, "dns_app_tag", b"a"), signed(KEY, "other", b"b")
ONE, TWO = customization(A, 1), customization(B, 2)


def running(want: Desired) -> tuple[Status, ...]:
    return tuple(map(status, want.customizations))


def started(saved: Saved | None = None, *, running: Sequence[Status] = ()) -> Started:
    return Started(("bpf",), None, saved, "this boot", tuple(running))


def converger() -> Converger:
    fresh = Converger(SIGNER)
    assert fresh.handle(started()) == []
    return fresh


def in_force(want: Desired, *artifacts: ArtifactData) -> Converger:
    """Return a converger that has this set in force."""
    agent = converger()
    outputs = feed(agent, want, *artifacts, Applied(running(want)))
    assert outputs[-1] == Report(generation=want.generation, customizations=list(running(want)))
    return agent


def feed(agent: Converger, *events: Event) -> list[Output]:
    return [output for event in events for output in agent.handle(event)]


def report_of(outputs: list[Output]) -> Report:
    (report,) = outputs
    assert isinstance(report, Report)
    return report


def test_only_what_is_missing_is_asked_for_and_the_tap_gets_the_whole() -> None:
    agent = in_force(desired(1, ONE), A)
    want = desired(2, ONE, TWO)
    assert agent.handle(want) == [Need(digests=[B.digest])]
    assert agent.handle(B) == [Apply(want, (A, B), confirmed=True)]


def test_the_same_again_changes_nothing_and_is_answered() -> None:
    agent = in_force(desired(1, ONE), A)
    assert report_of(agent.handle(desired(1, ONE))).generation == 1
    assert agent.state is State.SETTLED


def test_an_older_generation_is_ignored() -> None:
    agent = in_force(desired(5, ONE), A)
    assert report_of(agent.handle(desired(4))).generation == 5
    agent.handle(desired(7, TWO))
    assert report_of(agent.handle(desired(6, ONE))).generation == 5
    assert agent.state is State.FETCHING


def test_a_newer_set_takes_the_place_of_one_that_waits_for_artifacts() -> None:
    agent = converger()
    assert agent.handle(desired(1, ONE)) == [Need(digests=[A.digest])]
    assert agent.handle(desired(2, TWO)) == [Need(digests=[B.digest])]
    assert agent.handle(A) == []
    assert agent.handle(B) == [Apply(desired(2, TWO), (B,), confirmed=True)]


def test_what_comes_while_the_tap_works_waits_and_the_newest_wins() -> None:
    agent = in_force(desired(1, ONE, TWO), A, B)
    assert len(agent.handle(desired(2, ONE))) == 1
    assert feed(agent, desired(3), desired(4, TWO)) == []
    assert agent.handle(Applied(running(desired(2, ONE)))) == [
        Apply(desired(4, TWO), (B,), confirmed=True)
    ]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (ONE.model_copy(update={"target": "kmod"}), "the taps of this host run bpf, not kmod"),
        (ONE.model_copy(update={"module": "other"}), "is signed as dns_app_tag for bpf"),
    ],
)
def test_what_cannot_be_is_refused_and_the_last_good_stays(
    wanted: Customization, reason: str
) -> None:
    agent = in_force(desired(1, ONE), A)
    report = report_of(agent.handle(desired(2, ONE.model_copy(update={"id": "f" * 32}), wanted)))
    assert (report.generation, report.refused) == (1, 2)
    assert reason in (report.error or "")
    assert report.customizations == [status(ONE)]


@pytest.mark.parametrize(("transport", "error"), [("tcp", None), ("udp", "one tap of a host")])
def test_two_taps_may_serve_a_host_but_not_one_transport(transport: str, error: str | None) -> None:
    code = signed(KEY, "stream_tag", b"c", "kmod")
    match = Match.model_validate({"transport": transport})
    other = customization(code, 3).model_copy(update={"match": match})
    agent = Converger(SIGNER)
    agent.handle(Started(("kmod", "bpf"), None, None, "this boot", ()))
    outputs = feed(agent, desired(1, ONE, other), A, code)
    if error is None:
        assert outputs[-1] == Apply(desired(1, ONE, other), (A, code), confirmed=True)
    else:
        assert (report_of(outputs).error or "").startswith(error)


def test_two_customizations_of_one_id_are_refused() -> None:
    report = report_of(converger().handle(desired(1, ONE, ONE)))
    assert (report.refused, report.error) == (1, "two customizations have the same id")


def test_an_artifact_under_another_name_than_the_customization_is_refused() -> None:
    agent = converger()
    agent.handle(desired(1, ONE.model_copy(update={"module": "other"})))
    report = report_of(agent.handle(A))
    assert "is signed as dns_app_tag" in (report.error or "")


def test_a_refusal_is_told_until_a_set_is_applied() -> None:
    agent = in_force(desired(1, ONE), A)
    agent.handle(desired(2, ONE, ONE))
    assert report_of(agent.handle(Connected())).refused == 2
    outputs = feed(agent, desired(3), Applied(()))
    assert outputs == [Apply(desired(3), (), confirmed=True), Report(generation=3)]


def test_a_lost_connection_ends_the_wait_for_artifacts_and_keeps_what_came() -> None:
    agent = converger()
    want = desired(1, ONE, TWO)
    feed(agent, want, A, Disconnected())
    assert agent.state is State.SETTLED
    assert agent.handle(B) == []
    assert agent.handle(want) == [Need(digests=[B.digest])]


def test_artifacts_that_nobody_asked_for_are_not_kept() -> None:
    agent = converger()
    assert feed(agent, A, desired(1, TWO), A) == [Need(digests=[B.digest])]
    assert feed(agent, desired(2, ONE)) == [Need(digests=[A.digest])]


def test_artifacts_of_a_set_that_is_no_longer_wanted_are_not_kept() -> None:
    agent = converger()
    feed(agent, desired(1, ONE, TWO), A, desired(2, customization(signed(KEY, "third", b"c"))))
    assert agent.handle(desired(3, ONE)) == [Need(digests=[A.digest])]


def test_what_the_tap_cannot_do_is_told_and_not_tried_again_by_itself() -> None:
    agent = in_force(desired(1, ONE), A)
    report = report_of(feed(agent, desired(2), Failed("verifier: no"))[1:])
    assert (report.generation, report.refused, report.error) == (1, 2, "verifier: no")
    assert agent.state is State.SETTLED


def test_without_a_tap_only_the_empty_set_can_be() -> None:
    agent = Converger(SIGNER)
    agent.handle(Started((), "no BTF", None, "this boot", ()))
    assert report_of(agent.handle(desired(1, ONE))).error == ("no tap works on this host: no BTF")
    assert agent.handle(desired(2)) == [Apply(desired(2), (), confirmed=True)]


def test_in_the_same_boot_what_runs_is_adopted() -> None:
    agent = Converger(SIGNER)
    want = desired(6, ONE)
    assert agent.handle(started(Saved("this boot", want, (A,)), running=running(want))) == []
    assert agent.generation == 6
    assert report_of(agent.handle(want)).generation == 6


def test_in_the_same_boot_a_set_that_does_not_run_is_no_generation() -> None:
    agent = Converger(SIGNER)
    assert agent.handle(started(Saved("this boot", desired(6, ONE), (A,)))) == []
    assert agent.generation == 0
    assert agent.handle(desired(6, ONE)) == [Apply(desired(6, ONE), (A,), confirmed=True)]


def test_after_a_reboot_the_set_is_restored_receive_only_and_then_confirmed() -> None:
    agent = Converger(SIGNER)
    want, quiet = desired(6, ONE), desired(6, ONE.model_copy(update={"send": False}))
    assert agent.handle(started(Saved("last boot", want, (A,)))) == [
        Apply(quiet, (A,), confirmed=False)
    ]
    assert report_of(agent.handle(Applied(running(quiet)))) == Report(
        generation=0, customizations=list(running(quiet))
    )
    assert agent.handle(want) == [Apply(want, (A,), confirmed=True)]
    assert report_of(agent.handle(Applied(running(want)))).generation == 6


def test_after_a_reboot_an_nco_whose_numbers_are_smaller_is_believed() -> None:
    agent = Converger(SIGNER)
    agent.handle(started(Saved("last boot", desired(6, ONE), (A,))))
    agent.handle(desired(2))
    assert agent.handle(Applied(())) == [Apply(desired(2), (), confirmed=True)]


def test_what_cannot_be_restored_is_told() -> None:
    agent = Converger(SIGNER)
    assert agent.handle(started(Saved("last boot", desired(6, ONE), ()))) == []
    error = report_of(agent.handle(Connected())).error or ""
    assert error.startswith("generation 6 not restored after a reboot: artifact")


def test_a_change_by_someone_else_is_told_and_put_back() -> None:
    want = desired(1, ONE)
    agent = in_force(want, A)
    report, action = agent.handle(Observed(()))
    assert report == Report(
        generation=0, error="someone else changed the customizations of generation 1"
    )
    assert action == Apply(want, (A,), confirmed=True)
    assert agent.handle(Applied(running(want))) == [
        Report(generation=1, customizations=list(running(want)))
    ]


def test_what_cannot_be_put_back_is_refused_and_not_tried_again_by_itself() -> None:
    agent = in_force(desired(1, ONE), A)
    agent.handle(Observed(()))
    report = report_of(agent.handle(Failed("the tap is not installed")))
    assert (report.generation, report.refused) == (0, 1)
    assert report.error == "the tap is not installed"
    assert agent.handle(Observed(())) == []


def test_while_something_newer_is_fetched_nothing_is_put_back() -> None:
    agent = in_force(desired(1, ONE), A)
    agent.handle(desired(2, TWO))
    assert report_of(agent.handle(Observed(()))).generation == 0
    assert agent.handle(B) == [Apply(desired(2, TWO), (B,), confirmed=True)]


def test_putting_back_does_not_hide_what_was_refused() -> None:
    agent = in_force(desired(1, ONE), A)
    feed(agent, desired(2, ONE, ONE), Observed(()))
    report = report_of(agent.handle(Applied(running(desired(1, ONE)))))
    assert (report.generation, report.refused) == (1, 2)
    assert report.error == "two customizations have the same id"


def test_only_changes_are_reported() -> None:
    agent = in_force(desired(1, ONE), A)
    assert agent.handle(Observed((status(ONE),))) == []
    counted = status(ONE, sent=3)
    assert agent.handle(Observed((counted,), counters_due=False)) == []
    assert report_of(agent.handle(Observed((counted,)))).customizations == [counted]


def test_what_is_in_force_is_reported_also_when_counters_are_not_due() -> None:
    agent = in_force(desired(1, ONE), A)
    report, _ = agent.handle(Observed((), counters_due=False))
    assert isinstance(report, Report)
    assert report.generation == 0


GOOD = [signed(KEY, name, name.encode()) for name in ("one", "two", "three")]
BAD = [
    GOOD[0].model_copy(update={"data": b"altered"}),
    GOOD[1].model_copy(update={"name": "altered"}),
    signed(Ed25519PrivateKey.generate(), "three", b"three"),
]
POOL = [
    customization(artifact, 3 * switch + number, send=bool(switch))
    for switch in (0, 1)
    for number, artifact in enumerate(GOOD)
] + [customization(GOOD[0], 9).model_copy(update={"target": "kmod"})]
wanted_sets = st.lists(st.sampled_from(POOL), max_size=4)


class AnyOrder(RuleBasedStateMachine):
    """A converger, the tap that it thinks it has, and an NCO that says anything at any time.

    The tap really is: it has what was applied last, it fails when it likes, someone may clear it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.agent = Converger(SIGNER)
        self.tap: list[Customization] = []
        self.asked: Apply | None = None
        self.sets: dict[int, list[Desired]] = {}
        self.cleared = False
        self.take(started())

    def take(self, event: Event) -> None:
        for output in self.agent.handle(event):
            if isinstance(output, Apply):
                self.check_apply(output)
            elif isinstance(output, Report):
                self.check_report(output)

    def check_apply(self, action: Apply) -> None:
        assert self.asked is None, "asked again while the tap works"
        assert action.desired in self.sets[action.desired.generation], "not a set of the NCO's"
        assert {c.digest for c in action.desired.customizations} == {
            verified(artifact, SIGNER).digest for artifact in action.artifacts
        }
        assert all(c.target == "bpf" for c in action.desired.customizations)
        self.asked = action

    def check_report(self, report: Report) -> None:
        assert report.generation == self.agent.generation
        assert (report.refused is None) or report.error

    @rule(generation=st.integers(1, 6), customizations=wanted_sets)
    def a_set_is_wanted(self, generation: int, customizations: list[Customization]) -> None:
        self.want(desired(generation, *customizations))

    @rule(customizations=wanted_sets)
    def a_newer_set_is_wanted(self, customizations: list[Customization]) -> None:
        self.want(desired(max(self.sets, default=0) + 1, *customizations))

    def want(self, one: Desired) -> None:
        self.sets.setdefault(one.generation, []).append(one)
        self.take(one)

    @rule(artifact=st.sampled_from(GOOD))
    def an_artifact_comes(self, artifact: ArtifactData) -> None:
        self.take(artifact)

    @rule(artifact=st.sampled_from(BAD))
    def a_bad_artifact_comes(self, artifact: ArtifactData) -> None:
        self.take(artifact)

    @rule()
    def the_nco_goes(self) -> None:
        self.take(Disconnected())

    @rule()
    def the_nco_comes(self) -> None:
        self.take(Connected())

    @precondition(lambda self: self.asked)
    @rule(works=st.booleans())
    def the_tap_is_done(self, works: bool) -> None:
        assert self.asked is not None
        done, self.asked = self.asked, None
        if works:
            self.tap = done.desired.customizations
            self.cleared = False
        self.take(Applied(tuple(map(status, self.tap))) if works else Failed("verifier: no"))

    @rule()
    def the_tap_is_looked_at(self) -> None:
        if not self.asked:
            self.cleared = False
        self.take(Observed(tuple(map(status, self.tap))))

    @precondition(lambda self: not self.asked)
    @rule()
    def someone_clears_the_tap(self) -> None:
        self.tap = []
        self.cleared = True

    @invariant()
    def the_reported_generation_is_what_the_tap_has(self) -> None:
        if self.agent.generation and not self.cleared:
            assert self.tap in [one.customizations for one in self.sets[self.agent.generation]]

    @invariant()
    def the_tap_works_exactly_when_the_agent_waits_for_it(self) -> None:
        assert (self.agent.state is State.APPLYING) == (self.asked is not None)

    def teardown(self) -> None:
        """Whatever happened: once all works, the newest set comes into force."""
        self.take(Observed(tuple(map(status, self.tap))))
        self.a_newer_set_is_wanted(POOL[:3])
        for _ in range(2):
            if self.asked:
                self.the_tap_is_done(works=True)
            for artifact in GOOD:
                self.take(artifact)
        if self.asked:
            self.the_tap_is_done(works=True)
        assert self.agent.generation == max(self.sets)
        assert self.tap == POOL[:3]


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
