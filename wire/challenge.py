"""Challenges: what a kernel that really runs a customization answers.

The kernel tap answers with the key of the customization and the build id of the code that is
loaded, as the kernel itself read it. Root on that host can answer as well: the key is there.
"""

from __future__ import annotations

import hmac

NONCE_MIN = 16
NONCE_MAX = 64
"""Bytes of a nonce; chosen by who asks, used once."""


def expected_answer(key: bytes, nonce: bytes, customization: str, build_id: bytes) -> bytes:
    """Return HMAC-SHA-256 (RFC 2104) over nonce, id (its 16 bytes) and build id."""
    return hmac.digest(key, nonce + bytes.fromhex(customization) + build_id, "sha256")


def is_right(
    answer: bytes, *, key: bytes, nonce: bytes, customization: str, build_id: bytes
) -> bool:
    """Whether an answer is the expected one; takes as long where it is not."""
    return hmac.compare_digest(answer, expected_answer(key, nonce, customization, build_id))
