"""Challenges: what a kernel that really runs a customization answers.

The kernel tap answers with the key of the customization and the build id of the code that is
loaded, as the kernel itself read it. Root on that host can answer as well: the key is there.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

NONCE_MIN = 16
NONCE_MAX = 64
"""Bytes of a nonce; chosen by who asks, used once."""


@dataclass(frozen=True)
class Challenge:
    """What was asked, and of what code."""

    key: bytes = field(repr=False)
    """The customization's."""
    nonce: bytes
    customization: str
    """Its id, hexadecimal."""
    build_id: bytes
    """The artifact's GNU build id, as the kernel that answers says it has it."""

    def answer(self) -> bytes:
        """Return the right answer: HMAC-SHA-256 (RFC 2104) over nonce, id and build id."""
        asked = self.nonce + bytes.fromhex(self.customization) + self.build_id
        return hmac.digest(self.key, asked, "sha256")

    def is_answered(self, answer: bytes) -> bool:
        """Whether an answer is the right one; that it is not takes as long to say."""
        return hmac.compare_digest(answer, self.answer())
