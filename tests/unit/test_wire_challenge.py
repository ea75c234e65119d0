"""Challenges: the answer is RFC 2104's over all that is asked, and nothing else is right."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.challenge import Challenge

ASKED = Challenge(bytes(range(32)), b"n" * 16, "0123456789abcdef" * 2, bytes(20))
ANSWER = ASKED.answer()


def test_answer_is_hmac_sha_256_as_the_rfc_has_it() -> None:
    inner = bytes(a ^ 0x36 for a in ASKED.key.ljust(64, b"\0"))
    outer = bytes(a ^ 0x5C for a in ASKED.key.ljust(64, b"\0"))
    message = ASKED.nonce + bytes.fromhex(ASKED.customization) + ASKED.build_id
    inside = hashlib.sha256(inner + message).digest()
    assert hashlib.sha256(outer + inside).digest() == ANSWER


@given(st.integers(0, 255))
def test_every_bit_of_the_answer_counts(bit: int) -> None:
    altered = bytearray(ANSWER)
    altered[bit // 8] ^= 1 << bit % 8
    assert ASKED.is_answered(ANSWER)
    assert not ASKED.is_answered(bytes(altered))


@pytest.mark.parametrize(
    "changes",
    [
        {"key": bytes(32)},
        {"nonce": b"m" * 16},
        {"customization": "f" * 32},
        {"build_id": b"\1" * 20},
    ],
)
def test_what_else_was_asked_has_another_answer(changes: dict[str, Any]) -> None:
    assert not replace(ASKED, **changes).is_answered(ANSWER)


def test_the_key_is_not_shown() -> None:
    assert "key" not in repr(ASKED)
