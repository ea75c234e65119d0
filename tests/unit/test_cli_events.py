"""How `nco` reads events: the format, and going on after an interruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sse_starlette.event import ServerSentEvent

from controller.cli_client import Unreachable
from controller.cli_events import Sent, follow, parse
from controller.monitor_api import EventRecord
from controller.monitor_kinds import Kind


def record(number: int) -> EventRecord:
    return EventRecord(
        id=number, at=1.0, kind=Kind.HOST, intent=None, host="h1", phase=None, text="here"
    )


def lines(*numbers: int) -> list[str]:
    events = (
        ServerSentEvent(id=str(number), event="host", data=record(number).model_dump_json())
        for number in numbers
    )
    return [line for event in events for line in event.encode().decode().split("\r\n")]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1))
def test_what_the_library_writes_is_read_again(texts: list[str]) -> None:
    stream: list[str] = []
    for number, text in enumerate(texts):
        encoded = ServerSentEvent(id=str(number), event="host", data=text, sep="\n").encode()
        stream += [": a comment", *encoded.decode().split("\n")]
    assert list(parse(stream)) == [Sent("host", text, str(n)) for n, text in enumerate(texts)]


class Service:
    """Answers with one list of lines after the other; None: it is away."""

    def __init__(self, *answers: list[str] | None) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []

    @contextmanager
    def stream(self, _path: str, headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        self.asked.append(headers.get("Last-Event-ID"))
        answer = self.answers.pop(0)
        if answer is None:
            raise Unreachable("nobody answers")
        yield iter(answer)

    def status(self) -> None:
        if self.answers and self.answers[0] is None:
            self.answers.pop(0)
            raise Unreachable("nobody answers")


def test_it_goes_on_after_the_last_event_when_the_service_is_back() -> None:
    nco: Any = Service(lines(1, 2), None, None, lines(3))
    said: list[str] = []
    following = follow(nco, "", 0, say=said.append, sleep=lambda _: None)
    assert [event.id for event in islice(following, 3)] == [1, 2, 3]
    assert nco.asked == ["0", "2", "2"]
    assert len(said) == 1


def test_a_reader_that_was_too_slow_connects_again() -> None:
    lost = ["event: lost", 'data: {"text": "too slow"}', "", *lines(9)]
    nco: Any = Service([*lines(1), *lost], lines(2))
    following = follow(nco, "", 0, say=print, sleep=lambda _: None)
    assert [event.id for event in islice(following, 2)] == [1, 2]
    assert nco.asked == ["0", "1"]


def test_a_service_that_was_never_there_is_an_error() -> None:
    nco: Any = Service(None)
    with pytest.raises(Unreachable):
        next(follow(nco, "", None, say=print))
