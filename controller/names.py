"""Which hosts and intents there are: a name that nobody has is refused, naming those there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from controller.cib import Cib
from controller.database import Database
from controller.errors import NotFound, listed
from controller.events import Filter
from controller.monitor_queries import newest_events

T = TypeVar("T")


class Names:
    """The names that are in use, or that monitoring remembers."""

    def __init__(self, cib: Cib, database: Database) -> None:
        self._cib = cib
        self._database = database

    async def stored(
        self,
        query: Callable[[Session], list[T]],
        *,
        host: str | None = None,
        intent: str | None = None,
    ) -> list[T]:
        """Return what is stored of a host or an intent; raises NotFound for a name nobody has."""
        found = await self._database.read(query)
        if not found:
            await self._check(host, intent)
        return found

    async def _check(self, host: str | None, intent: str | None) -> None:
        if (
            host is not None
            and self._cib.host(host) is None
            and not await self._is_remembered(Filter(host=host))
        ):
            raise unknown_host(self._cib, host)
        if (
            intent is not None
            and self._cib.intent(intent) is None
            and not await self._is_remembered(Filter(intent=intent))
        ):
            raise unknown_intent(self._cib, intent)

    async def _is_remembered(self, wanted: Filter) -> bool:
        return bool(await self._database.read(newest_events(wanted, limit=1)))


def unknown_host(cib: Cib, name: str) -> NotFound:
    """Return what is said of a host that is not there."""
    return NotFound(f"there is no host {name!r}; hosts: {_hosts(cib)}")


def unknown_intent(cib: Cib, name: str) -> NotFound:
    """Return what is said of an intent that is not there."""
    return NotFound(f"there is no intent {name!r}; intents: {_intents(cib)}")


def check_either(cib: Cib, name: str) -> None:
    """Raise NotFound where a name is neither a host's nor that of an intent."""
    if cib.host(name) is None and all(name != state.name for state in cib.intents()):
        raise NotFound(
            f"there is no host and no intent {name!r}; hosts: {_hosts(cib)}; "
            f"intents: {_intents(cib)}"
        )


def _hosts(cib: Cib) -> str:
    return listed(cib.hosts(), "nco host list")


def _intents(cib: Cib) -> str:
    return listed([state.name for state in cib.intents()], "nco show")
