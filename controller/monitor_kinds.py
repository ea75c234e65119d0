"""What events and alerts are about: the names that the service and its clients share."""

from __future__ import annotations

from enum import StrEnum

LOST = "lost"
"""Name of the last event of a stream that ends before the reader did: it should connect again."""


class Kind(StrEnum):
    """What an event is about."""

    INTENT = "intent"
    """An intent enters a phase, a host confirms it, a build ends."""
    HOST = "host"
    """An agent connects or is lost, a host refuses."""
    ALERT = "alert"
    """Something that somebody should look at is raised or cleared."""
    AUDIT = "audit"
    """Somebody changed something, or tried to."""


class Alarm(StrEnum):
    """What an alert is raised for."""

    HOST_LOST = "host-lost"
    """A host with customizations is away."""
    REFUSED = "refused"
    """A host refuses its desired state."""
    CHALLENGE = "challenge"
    """A customization did not prove that it runs; cleared by hand."""
    MIRROR = "mirror"
    """The switches cannot copy an intent's traffic to its middlebox."""
    UNFOLLOWED = "unfollowed"
    """Hosts of an intent came, went or moved, and it cannot be told who is meant now."""
    CA = "ca"
    """The NCO's certification authority expires within half a year."""
