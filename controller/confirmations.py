"""Which news of a host's confirmation are worth telling.

A host is sent its desired state again whenever something else on it changes, and until it has
answered nothing of it is confirmed; after a restart of the service nothing is, until agents are
back. Nobody wants to read that. What is told is that a host lost what it had confirmed: its agent
went away, it refuses, or a customization is not as it should be; and that it has it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.phases import HostNow


class Confirmations:
    """Remembers of which hosts it was not told that they do not confirm any more."""

    def __init__(self) -> None:
        self._untold: dict[str, set[str]] = {}
        """Hosts, by deployment."""

    def begin_untold(self, deployment: str, hosts: Iterable[str]) -> None:
        """Note that hosts had confirmed before, as far as anybody was told."""
        self._untold[deployment] = set(hosts)

    def forget(self, deployment: str) -> None:
        """Note that a deployment asks something new of its hosts, or is over."""
        self._untold.pop(deployment, None)

    def is_news(self, deployment: str, host: str, now: HostNow, *, was: bool, is_: bool) -> bool:
        """Whether it is to be told that a host confirms (`is_`) or does not; `was`: it did."""
        if was and is_:
            return False
        untold = self._untold.setdefault(deployment, set())
        if is_:
            news = host not in untold
            untold.discard(host)
            return news
        if not was and host not in untold:
            return False
        if is_passing(now):
            untold.add(host)
            return False
        untold.discard(host)
        return True


def is_passing(now: HostNow) -> bool:
    """Whether what keeps a host from confirming should be over soon, by itself."""
    return not now.answered if now.connected else now.unseen
