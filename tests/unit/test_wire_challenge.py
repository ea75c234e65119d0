"""Challenges: the answer is RFC 2104's over all that is asked, and nothing else is right."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from wire.challenge import expected_answer, is_right

KEY = bytes(range(32))
NONCE = b"n" * 16
ID = "0123456789abcdef" * 2
BUILD = bytes(20)
ANSWER = expected_answer(KEY, NONCE, ID, BUILD)


def test_answer_is_hmac_sha_256_as_the_rfc_has_it() -> None:
    inner = bytes(a ^ 0x36 for a in KEY.ljust(64, b"\0"))
    outer = bytes(a ^ 0x5C for a in KEY.ljust(64, b"\0"))
    message = NONCE + bytes.fromhex(ID) + BUILD
    assert hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest() == ANSWER


@given(st.integers(0, 255))
def test_every_bit_of_the_answer_counts(bit: int) -> None:
    asked = {"key": KEY, "nonce": NONCE, "customization": ID, "build_id": BUILD}
    altered = bytearray(ANSWER)
    altered[bit // 8] ^= 1 << bit % 8
    assert is_right(ANSWER, **asked)
    assert not is_right(bytes(altered), **asked)


def test_another_key_nonce_customization_or_build_is_another_answer() -> None:
    others = {
        expected_answer(bytes(32), NONCE, ID, BUILD),
        expected_answer(KEY, b"m" * 16, ID, BUILD),
        expected_answer(KEY, NONCE, "f" * 32, BUILD),
        expected_answer(KEY, NONCE, ID, b"\1" * 20),
    }
    assert len(others | {ANSWER}) == 5
