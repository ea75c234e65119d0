"""The agent's answer to a challenge: what the tap can prove of a customization that it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from host_agent.tap import Proof, TapError
from wire.challenge import NONCE_MAX, NONCE_MIN
from wire.messages import MAX_TEXT, Challenge, ChallengeAnswer, Customization

log = logging.getLogger(__name__)


def answer(
    asked: Challenge,
    customization: Customization | None,
    prove: Callable[[Customization, bytes], Proof],
) -> ChallengeAnswer:
    """Return the answer about a customization that should be in force, None if none is.

    `prove` is the taps'; it blocks as their calls do.
    """

    def failed(reason: str) -> ChallengeAnswer:
        log.warning(
            "challenge not answered customization=%s reason=%r", asked.customization, reason
        )
        return ChallengeAnswer(
            customization=asked.customization, nonce=asked.nonce, error=reason[:MAX_TEXT]
        )

    if customization is None:
        return failed("no such customization is in force here")
    if not NONCE_MIN <= len(asked.nonce) <= NONCE_MAX:
        return failed(f"a nonce has {NONCE_MIN} to {NONCE_MAX} bytes")
    try:
        proof = prove(customization, asked.nonce)
    except (TapError, OSError) as error:
        return failed(str(error))
    return ChallengeAnswer(
        customization=asked.customization,
        nonce=asked.nonce,
        answer=proof.answer,
        strength=proof.strength,
        evidence=proof.evidence,
    )
