"""Digests that say whether what hosts and switches should have is what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from wire.frames import encode
from wire.messages import Customization


def fingerprint(customizations: Collection[Customization]) -> str:
    """Return a digest of a desired state: of what tells two of them apart.

    What else a customization says (its match, its key) never changes while it has its id.
    """
    return fingerprint_of(
        [
            (c.id, c.digest, c.priority, c.receive, c.send, c.active, c.deprecated)
            for c in customizations
        ]
    )


def fingerprint_of(content: object) -> str:
    """Return a digest of plain values."""
    return hashlib.sha256(encode(content)).hexdigest()
