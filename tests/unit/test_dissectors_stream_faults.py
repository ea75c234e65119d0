"""The dissector of customized TCP streams in real tshark: what is plain, hostile or mutilated."""

from __future__ import annotations

import random

import pytest

from tests.pcap import Segment
from tests.stream_frames import (
    END,
    Connection,
    data,
    every,
    frame,
    in_pieces,
    mark,
    switch,
    tag,
    tagged,
)
from tests.stream_shown import (
    BODY,
    LIVE,
    NOBODY,
    REQUEST,
    RESPONSE,
    SECRET,
    STREAM_TAG,
    STREAM_XOR,
    on_ports,
    shown,
)
from tests.tshark import Tshark


@pytest.fixture
def options(tshark: Tshark) -> list[str]:
    return tshark.dissectors(STREAM_TAG, STREAM_XOR)


# -- plain streams


def plain_streams() -> list[Segment]:
    """Streams of many ports, whole and not, that are not customized but look like it."""
    source = random.Random(45)  # noqa: S311
    texts = [
        *(REQUEST * 3, RESPONSE, BODY, LIVE[:3] + REQUEST, mark()[:19] + b"\0" + REQUEST),
        *(
            b"x" + mark() + REQUEST,
            LIVE[:16] + b"NONE" + BODY,
            b"\xf5L45\x02N" + BODY,
            BODY + LIVE[:9],
        ),
    ]
    segments: list[Segment] = []
    for number in range(150):
        port = source.choice(
            [21, 22, 25, 53, 80, 110, 143, 179, 443, 445, 1883, 3306, 8080, NOBODY]
        )
        one = Connection(port, 50000 + number)
        for _ in range(source.randrange(1, 4)):
            one.client(*every(source.choice(texts), source.randrange(30, 1400)))
            one.server(*every(source.choice(texts), source.randrange(30, 1400)))
        kept = list(one.close())
        for _ in range(source.randrange(3)):
            at = source.randrange(3, len(kept) - 1)
            kept[at], kept[at + 1] = kept[at + 1], kept[at]
        kept.insert(source.randrange(len(kept)), source.choice(kept))
        del kept[source.randrange(len(kept))]
        segments += kept
    return segments


@pytest.mark.parametrize("passes", [(), ("-2",)], ids=["one pass", "two passes"])
def test_plain_streams_are_dissected_as_ever(
    tshark: Tshark, options: list[str], passes: tuple[str, ...]
) -> None:
    plain = plain_streams()
    with_ours = tshark.text(plain, "-V", *passes, *options)
    assert with_ours == tshark.text(plain, "-V", *passes)


def test_a_plain_stream_that_begins_as_a_mark_is_shown_a_segment_later(
    tshark: Tshark, options: list[str]
) -> None:
    stream = mark()[:12] + b"not a mark, in the end"
    seen = shown(tshark, on_ports(every(stream, 1), in_pieces(stream, 12)), *options)
    for client in (seen[50000, True], seen[50001, True]):
        assert (client.application, client.signatures) == (stream, [])


# -- what breaks the format


@pytest.mark.parametrize(
    ("broken", "expert"),
    [
        (frame(b"X", b"abc"), "type"),
        (frame(b"\0"), "type"),
        (b"D\x05\0\x04abcd", "head"),
        (frame(b"P", b"abc", 1), "head"),
        (frame(b"P"), "length"),
        (frame(b"S", b"\0\1STAGx"), "length"),
        (frame(b"S", b"\0\1STA"), "length"),
        (frame(b"S", b"\0\1STAG", 2), "head"),
        (frame(b"E", b"x"), "length"),
        (frame(b"E", b"", 1), "head"),
        (switch(b"SXOR", 2) + data(b"abcd", b"h"), "head"),
        (switch(b"SXOR", 2) + data(b"x" * 17921), "length"),
        (switch(b"NONE", 2) + data(b"abcd"), "signature"),
        (data(b"abcdefgh", tag())[:-1], "inside"),
        (data(b"abcd", tag())[:20], "inside"),
        (b"D", "inside"),
        (b"S\0\0\6\0", "inside"),
    ],
)
def test_hostile_frames_are_named(
    tshark: Tshark, options: list[str], broken: bytes, expert: str
) -> None:
    stream = mark() + data(b"good", tag(5)) + broken
    connections = [[stream], every(stream, 7)] if len(broken) < 1000 else [every(stream, 9000)]
    seen = shown(tshark, on_ports(*connections), *options)
    for number in range(len(connections)):
        client = seen[50000 + number, True]
        assert client.experts == [expert]
        assert client.module.startswith(b"good")
        assert client.tags[0] == "5"


def test_a_head_that_is_not_the_module_s_is_named(tshark: Tshark, options: list[str]) -> None:
    heads = [tag()[:-1], tag() + b"x", b"STAF" + tag()[4:], tag(process=b"a\0b")]
    names = [f"l45.stream_tag.expert.{n}" for n in ("truncated", "rest", "constant", "padding")]
    segments = on_ports(*([mark() + data(b"x", head)] for head in heads))
    rows = [row for row in tshark.fields(segments, names, *options) if any(row)]
    assert [[bool(value) for value in row] for row in rows] == [
        [column == number for column in range(4)] for number in range(4)
    ]


def test_mutilated_streams_never_raise_an_error_in_lua(tshark: Tshark, options: list[str]) -> None:
    source = random.Random(46)  # noqa: S311
    good = mark() + tagged(REQUEST + RESPONSE[:500], 90) + switch(b"SXOR", 2) + data(SECRET)
    good += switch(b"STAG", 3) + tagged(REQUEST, 9) + END + REQUEST + LIVE + tagged(REQUEST)
    segments: list[Segment] = []
    for number in range(400):
        stream = bytearray(good)
        for _ in range(source.randrange(8)):
            stream[source.randrange(20, len(stream))] = source.choice([*b"DPSE\0\xf5L", 255, 28])
        del stream[source.randrange(20, len(stream) + 1) :]
        one = Connection(source.choice([80, 443, NOBODY]), 50000 + number)
        one.client(*every(bytes(stream), source.choice([3, 40, 200, 1400])))
        kept = list(one.server(mark() + bytes(stream[20:])).close())
        for _ in range(source.randrange(4)):
            at, other = source.randrange(len(kept)), source.randrange(len(kept))
            kept[at], kept[other] = kept[other], kept[at]
        del kept[source.randrange(len(kept))]
        segments += kept
    for passes in ([], ["-2"]):
        rows = tshark.fields(segments, ["l45.mark.token", "_ws.lua.error"], *passes, *options)
        assert sum(bool(row[0]) for row in rows) > 600
        assert not [row for row in rows if row[1]]


@pytest.mark.parametrize("port", [53, 1090, 3567, 8567])
def test_what_the_next_dissector_cannot_take_harms_nobody(
    tshark: Tshark, options: list[str], port: int
) -> None:
    # 53 and 1090: messages cut short, the errors of which used up Lua's stack after 200 of them.
    # 3567 and 8567: dissectors that crash where they are not called by TCP itself.
    message = b"\1\0\0\1\0\0\0\1\1\2\0\2" + bytes(range(64)) * 3
    connections = [[mark() + tagged(message, 100)] for _ in range(300)]
    rows = tshark.fields(
        on_ports(*connections, port=port), ["l45.mark.token", "_ws.lua.error"], *options
    )
    assert [row[1] for row in rows if row[0]] == [""] * 300
