"""Reads the service's events (server-sent events), and goes on when the service is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from controller.cli_client import NcoClient, Unreachable
from controller.monitor_api import EventRecord
from controller.monitor_kinds import LOST

RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Sent:
    """One server-sent event."""

    name: str
    data: str
    id: str


def parse(lines: Iterable[str]) -> Iterator[Sent]:
    """Yield the events in a stream's lines (HTML standard, section 9.2.6)."""
    fields = {"event": "message", "data": "", "id": ""}
    said = False
    for line in lines:
        if not line:
            if said:
                yield Sent(fields["event"], fields["data"].removesuffix("\n"), fields["id"])
            fields, said = {"event": "message", "data": "", "id": fields["id"]}, False
            continue
        name, _, value = line.partition(":")
        if name not in fields:
            continue  # a comment, or a field that is not known
        value = value.removeprefix(" ")
        fields[name] = fields["data"] + value + "\n" if name == "data" else value
        said = said or name == "data"


def follow(
    nco: NcoClient,
    query: str,
    last: int | None,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    listens: Callable[[], None] = lambda: None,
) -> Iterator[EventRecord]:
    """Yield events without end, after `last` where it is given; `say` tells of interruptions.

    `listens` is called each time that the service has begun to tell. Raises Unreachable where the
    service was never there.
    """
    was_there = False
    while True:
        headers = {"Last-Event-ID": str(last)} if last is not None else {}
        try:
            with nco.stream(f"/events?{query}", headers) as lines:
                if not was_there and last is None:
                    last = int(time.time() * 1e6)
                was_there = True
                listens()
                for sent in parse(lines):
                    if sent.name == LOST:
                        break
                    event = _event(sent)
                    if event is not None:
                        last = event.id
                        yield event
            sleep(RETRY_SECONDS)  # whoever cut it off may do so again
        except Unreachable:
            if not was_there:
                raise
            say("the service is away; it is waited for")
            _wait_for(nco, sleep)


def _event(sent: Sent) -> EventRecord | None:
    """Return what was sent; None for a kind that a newer service knows."""
    try:
        return EventRecord.model_validate_json(sent.data)
    except ValidationError:
        return None


def _wait_for(nco: NcoClient, sleep: Callable[[float], None]) -> None:
    while True:
        sleep(RETRY_SECONDS)
        try:
            nco.status()
        except Unreachable:
            continue
        return
