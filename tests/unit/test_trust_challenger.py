"""Challenges: who is asked when, which answers are right, and what silence means."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.challenger import EVADED, TAUGHT, Challenger, Learnt, Outcome, Subject, Verdict
from controller.elf import build_id
from host_agent.challenge import answer as agents_answer
from host_agent.tap import Proof, TapError
from wire import challenge
from wire.messages import Challenge, ChallengeAnswer

KEY = bytes(range(32))
ID = "0123456789abcdef" * 2
BUILD_ID = bytes(range(20))
TAGS = b"sendtag.recvtag."
WINDOW = 10.0
BPF = Subject("h1", ID, "tag", "dns_app_tag", "bpf", "d" * 64, "6.18", KEY, 60.0)
KMOD = replace(BPF, target="kmod", module="stream_tag")


def challenger(*known: Learnt) -> Challenger:
    return Challenger(
        window=WINDOW,
        build_id=lambda digest: BUILD_ID if digest == KMOD.digest else None,
        known=known,
        uniform=lambda low, _: low,
    )


def answer(asked: Challenge, evidence: bytes = TAGS, key: bytes = KEY) -> ChallengeAnswer:
    right = challenge.Challenge(key, asked.nonce, asked.customization, evidence).answer()
    return ChallengeAnswer(
        customization=asked.customization, nonce=asked.nonce, answer=right, evidence=evidence
    )


def ask(one: Challenger, subject: Subject, now: float = 0.0) -> Challenge:
    (((host, asked),), silent) = one.look([subject], now)
    assert host == subject.host
    assert silent == []
    return asked


def verdict(outcome: Outcome | None) -> Verdict | None:
    return outcome.verdict if outcome else None


def test_the_first_evidence_of_an_artifact_and_a_kernel_is_learnt_and_then_binding() -> None:
    one = challenger()
    outcome, learnt = one.answered("h1", answer(ask(one, BPF)), 1.0)
    assert verdict(outcome) is Verdict.PASSED
    assert learnt == Learnt(BPF.digest, BPF.kernel, TAGS, "h1")
    again = ask(one, BPF, 61.0)
    outcome, learnt = one.answered("h1", answer(again, b"other tag.other."), 62.0)
    assert verdict(outcome) is Verdict.WRONG
    assert outcome is not None
    assert "other code" in outcome.text
    assert "as h1 was the first to say" in outcome.text
    assert learnt is None


def test_what_was_learnt_on_one_host_binds_all_and_outlives_the_service() -> None:
    one = challenger(Learnt(BPF.digest, BPF.kernel, TAGS))
    other = replace(BPF, host="h2")
    outcome, _ = one.answered("h2", answer(ask(one, other), b"other tag.other."), 1.0)
    assert verdict(outcome) is Verdict.WRONG


def test_what_a_revoked_host_taught_binds_nobody() -> None:
    one, other = challenger(), replace(BPF, host="h2")
    one.answered("h1", answer(ask(one, BPF), b"swapped."), 1.0)
    one.unlearn("h1")
    outcome, learnt = one.answered("h2", answer(ask(one, other)), 2.0)
    assert verdict(outcome) is Verdict.PASSED
    assert learnt == Learnt(BPF.digest, BPF.kernel, TAGS, "h2")


def test_a_host_that_says_ever_other_kernels_teaches_so_much_and_no_more() -> None:
    one = challenger(Learnt("e" * 64, "6.1", TAGS, "h2"))
    for number in range(3 * TAUGHT):
        now = 100.0 * number
        one.look([], now)
        one.answered("h1", answer(ask(one, replace(BPF, kernel=f"6.{number}"), now)), now)
    assert len(one._learnt) == TAUGHT + 1


def test_another_kernel_has_other_tags() -> None:
    one = challenger(Learnt(BPF.digest, "6.1", b"tags of Linux 6.1"))
    outcome, learnt = one.answered("h1", answer(ask(one, BPF)), 1.0)
    assert verdict(outcome) is Verdict.PASSED
    assert learnt is not None


def test_the_kernel_answers_over_the_build_id_of_what_was_built() -> None:
    for evidence, strength, expected in (
        (BUILD_ID, "kernel", Verdict.PASSED),
        (BUILD_ID, "agent", Verdict.WRONG),
        (bytes(20), "kernel", Verdict.WRONG),
        (b"", "kernel", Verdict.WRONG),
    ):
        one = challenger()
        said = answer(ask(one, KMOD), evidence).model_copy(update={"strength": strength})
        outcome, learnt = one.answered("h1", said, 1.0)
        assert verdict(outcome) is expected
        assert learnt is None


def test_a_kernel_object_without_a_build_id_is_never_right() -> None:
    one, subject = challenger(), replace(KMOD, digest="e" * 64)
    said = answer(ask(one, subject), BUILD_ID).model_copy(update={"strength": "kernel"})
    assert verdict(one.answered("h1", said, 1.0)[0]) is Verdict.WRONG


def test_a_wrong_key_is_a_wrong_answer_and_nothing_is_learnt_from_it() -> None:
    one = challenger()
    outcome, learnt = one.answered("h1", answer(ask(one, BPF), key=bytes(32)), 1.0)
    assert verdict(outcome) is Verdict.WRONG
    assert learnt is None


def test_silence_is_a_failure_when_the_window_is_over() -> None:
    one = challenger()
    ask(one, BPF)
    assert one.next_look(4.0) == WINDOW - 4.0
    assert one.look([BPF], WINDOW - 0.1) == ([], [])
    asked, (silent,) = one.look([BPF], WINDOW)
    assert asked == []
    assert (silent.verdict, silent.subject) == (Verdict.SILENT, BPF)


def test_a_late_answer_a_repeated_one_and_one_to_another_question_are_nothing() -> None:
    one = challenger()
    asked = ask(one, BPF)
    said = answer(asked)
    other = said.model_copy(update={"nonce": b"n" * 32})
    assert one.answered("h1", other, 1.0) == (None, None)
    assert one.answered("h2", said, 1.0) == (None, None)
    assert verdict(one.answered("h1", said, 1.0)[0]) is Verdict.PASSED
    assert one.answered("h1", said, 1.1) == (None, None)


def test_what_is_gone_has_no_verdict_and_what_comes_back_is_asked_anew() -> None:
    one = challenger()
    first = ask(one, BPF)
    assert one.look([], 1.0) == ([], [])
    assert one.answered("h1", answer(first), 2.0) == (None, None)
    assert one.look([], 100.0) == ([], [])
    assert ask(one, BPF, 101.0).nonce != first.nonce


def test_who_goes_away_whenever_it_is_asked_is_silent() -> None:
    one = challenger()
    for number in range(EVADED):
        ask(one, BPF, float(number))
        one.left("h1")
        if number % 2:  # it may be back before anybody has noticed that it was gone
            assert one.look([], number + 0.5) == ([], [])
    (asked, (outcome,)) = one.look([BPF], 9.0)
    assert (asked, outcome.verdict) == ([], Verdict.SILENT)
    assert one.look([BPF], 9.1) == ([], [])


def test_connections_that_break_are_no_evasion() -> None:
    """What was asked on one that broke is asked again on the next."""
    one = challenger()
    for number in range(5 * EVADED):
        now = 100.0 * number
        ask(one, BPF, now)
        one.left("h1")
        outcome, _ = one.answered("h1", answer(ask(one, BPF, now + 1)), now + 2)
        assert verdict(outcome) is Verdict.PASSED


def test_a_host_is_not_asked_before_it_has_confirmed_but_also_after_it_does_no_more() -> None:
    one, unconfirmed = challenger(), replace(BPF, confirmed=False)
    assert one.look([unconfirmed], 100.0) == ([], [])
    asked = ask(one, BPF, 101.0)
    assert one.look([unconfirmed], 102.0) == ([], [])
    one.answered("h1", answer(asked), 103.0)
    ask(one, unconfirmed, 163.0)
    _, (silent,) = one.look([unconfirmed], 163.0 + WINDOW)
    assert silent.verdict is Verdict.SILENT


def test_a_host_that_says_why_it_has_no_answer_fails() -> None:
    one = challenger()
    asked = ask(one, BPF)
    said = ChallengeAnswer(customization=ID, nonce=asked.nonce, error="not in force")
    outcome, _ = one.answered("h1", said, 1.0)
    assert verdict(outcome) is Verdict.REFUSED
    assert outcome is not None
    assert outcome.text == "the host says: not in force"


def test_without_an_interval_only_an_operator_asks() -> None:
    one, quiet = challenger(), replace(BPF, every=None)
    assert one.look([quiet], 1e6) == ([], [])
    assert one.demand(1e6, lambda s: s.host == "h2") == []
    assert one.demand(1e6, lambda s: s.host == "h1") == [quiet]
    asked = ask(one, quiet, 1e6)
    one.answered("h1", answer(asked), 1e6)
    assert one.look([quiet], 2e6) == ([], [])


@given(st.lists(st.floats(0.01, 50), max_size=30), st.floats(1, 100))
def test_an_honest_host_is_asked_as_often_as_is_due_and_never_fails(
    steps: list[float], every: float
) -> None:
    one, subject, now, asked_at = challenger(), replace(BPF, every=every), 0.0, []
    for step in steps:
        now += step
        asked, silent = one.look([subject], now)
        assert silent == []
        for _, question in asked:
            asked_at.append(now)
            assert verdict(one.answered("h1", answer(question), now)[0]) is Verdict.PASSED
    assert all(b - a >= every - 1e-6 for a, b in pairwise(asked_at))
    if steps:
        assert asked_at, "the first is asked at once here"


def test_the_agent_answers_with_what_its_tap_proves() -> None:
    asked = Challenge(customization=ID, nonce=b"n" * 32)
    one = object()
    said = agents_answer(asked, one, lambda c, n: Proof(n, TAGS, "agent"))  # type: ignore[arg-type]
    assert (said.answer, said.evidence, said.nonce, said.error) == (
        b"n" * 32,
        TAGS,
        b"n" * 32,
        None,
    )

    def refuses(_customization: object, _nonce: bytes) -> Proof:
        raise TapError("it is gone")

    assert agents_answer(asked, one, refuses).error == "it is gone"  # type: ignore[arg-type]
    assert "no such customization" in (agents_answer(asked, None, refuses).error or "")


def test_the_build_id_is_that_of_the_linker(tmp_path: Path) -> None:
    source, output = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text("int a;\n")
    wanted = "0x" + BUILD_ID.hex()
    subprocess.run(
        ["gcc", "-shared", f"-Wl,--build-id={wanted}", str(source), "-o", str(output)], check=True
    )
    assert build_id(output.read_bytes()) == BUILD_ID
    subprocess.run(["gcc", "-c", str(source), "-o", str(output)], check=True)
    assert build_id(output.read_bytes()) is None


@given(st.binary(max_size=400))
def test_any_bytes_have_a_build_id_or_none(code: bytes) -> None:
    build_id(code)
    build_id(b"\x7fELF\x02\x01" + code)


@pytest.mark.parametrize("count", [65535])
def test_a_header_that_promises_too_much_is_no_file(count: int) -> None:
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01", *[0] * 5, 64, *[0] * 5, count, 0)
    assert build_id(header) is None


def test_looks_are_needed_only_while_something_was_or_will_be_asked() -> None:
    one, quiet = challenger(), replace(BPF, every=None)
    one.look([quiet], 0.0)
    assert not one.is_busy
    one.demand(0.0, lambda _: True)
    assert one.is_busy
    one.look([quiet], 0.0)
    assert one.is_busy
    one.look([quiet], WINDOW)
    assert not one.is_busy
    one.look([BPF], WINDOW)
    assert one.is_busy
    one.look([], WINDOW)
    assert not one.is_busy
