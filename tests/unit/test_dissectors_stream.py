"""The dissector of customized TCP streams in real tshark, against docs/wire-format.md."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.pcap import ACK, Segment
from tests.stream_frames import (
    END,
    TOKEN,
    Connection,
    data,
    every,
    in_pieces,
    mark,
    switch,
    tag,
    tagged,
    turned,
    untouched,
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
    renumbered,
    shown,
)
from tests.tshark import Tshark
from wire.manifest import Manifest


@pytest.fixture
def options(tshark: Tshark) -> list[str]:
    return tshark.dissectors(STREAM_TAG, STREAM_XOR)


# -- whole streams


def test_a_stream_is_shown_frame_by_frame_and_http_inside_as_http(
    tshark: Tshark, options: list[str]
) -> None:
    exchange = Connection().client(mark() + tagged(REQUEST, number=7)).close()
    text = tshark.text(list(exchange), "-V", *options)
    assert (
        "\nLayer 4.5 Customized Stream\n"
        "    Start mark: new stream, STAG, epoch 1\n"
        "        Magic: f54c3435\n"
        "        Version: 1\n"
        "        Kind: new stream (0x4e)\n"
        "        Token: 0001020304050607\n"
        "        Epoch: 1\n"
        "        Signature: STAG\n"
        "    Frame: Data, 69 bytes, STAG, epoch 1\n"
        "        Type: Data (0x44)\n"
        "        Head: 28\n"
        "        Length: 69\n"
        "        [Epoch: 1]\n"
        "        [Signature: STAG]\n"
        "        Layer 4.5 Cust Protocol Data, Module: stream_tag\n"
        "            Signature: 0x53544147\n"
        "            Tag: 7\n"
        "            Application ID: curl\n"
        "        Application's bytes: "
    ) in text
    assert "\nHypertext Transfer Protocol\n    GET /file HTTP/1.1\\r\\n" in text


@pytest.mark.parametrize("size", [1, 7, 33, 500, 1400, 60000])
def test_http_that_spans_frames_and_segments_is_shown_once_and_whole(
    tshark: Tshark, options: list[str], size: int
) -> None:
    exchange = Connection()
    for _ in range(2):
        exchange.client(*every((mark() if _ == 0 else b"") + tagged(REQUEST, 20), size))
        exchange.server(*every((mark() if _ == 0 else b"") + tagged(RESPONSE, 1000), size))
    names = ["http.request.uri", "http.response.code", "_ws.col.Protocol"]
    rows = tshark.fields(list(exchange.close()), names, "-Y", "http", *options)
    body = BODY.hex()
    assert [row[:2] for row in rows] == [["/file", ""], ["", "200"]] * 2
    assert [row[2] for row in rows] == ["HTTP"] * 4
    trees = tshark.layers(list(exchange), "-Y", "http.response", *options)
    assert [tree["http"]["data"]["data.data"].replace(":", "") for tree in trees] == [body] * 2


def test_both_directions_are_streams_of_their_own(tshark: Tshark, options: list[str]) -> None:
    exchange = Connection(NOBODY)
    exchange.server(b"220 hello").client(mark(b"SXOR", 3) + data(SECRET))  # server first: plain
    exchange.server(b" again").client(data(SECRET) + END + b"bye").server(b"!").close()
    seen = shown(tshark, exchange, *options)
    client, server = seen[40000, True], seen[40000, False]
    assert (client.opaque, client.application) == (SECRET * 2, b"bye")
    assert (server.application, server.signatures, server.experts) == (b"220 hello again!", [], [])


def test_rotation_end_and_live_mark(tshark: Tshark, options: list[str]) -> None:
    stream = (
        mark(epoch=1) + data(b"one ", tag(1)) + data(b"more ") + switch(b"SXOR", 1) + data(SECRET)
        + untouched(b"plain ") + switch(b"STAG", 2) + data(b"two ", tag(2)) + END + b"nothing "
        + mark(kind=b"L", epoch=3) + data(b"three", tag(3)) + END
    )  # fmt: skip
    sizes = (1, 5, 29, len(stream))
    seen = shown(tshark, on_ports(*(every(stream, size) for size in sizes)), *options)
    assert len(seen) == 2 * len(sizes)
    for client in (seen[50000 + number, True] for number in range(len(sizes))):
        assert client.application == b"one more plain two nothing three"
        assert client.opaque == SECRET
        assert client.tags == ["1", "2", "3"]
        assert client.experts == []
        assert set(client.signatures) == {"STAG", "SXOR"}


# -- segments as the network and the capture leave them


@pytest.mark.parametrize("end", [b"", END, END + b"plain"], ids=["open", "end", "plain"])
def test_every_cut_of_a_stream_is_the_same_stream(
    tshark: Tshark, options: list[str], end: bytes
) -> None:
    stream = mark() + data(b"abc", tag(1)) + untouched(b"d") + data(b"efg", tag(2)) + end
    cuts = [in_pieces(stream, cut) for cut in range(1, len(stream))] + [every(stream, 1)]
    seen = shown(tshark, on_ports(*cuts), *options)
    for number in range(len(cuts)):
        client = seen[50000 + number, True]
        assert client.application == b"abcdefg" + end[4:], number
        assert (client.tags, client.experts) == (["1", "2"], []), number


def test_every_cut_of_a_plain_stream_with_a_live_mark(tshark: Tshark, options: list[str]) -> None:
    before, after = b"before", b"after"
    stream = before + LIVE + data(after, tag(1))
    cuts = [in_pieces(stream, cut) for cut in range(1, len(stream))] + [every(stream, 1)]
    seen = shown(tshark, on_ports(*cuts), *options)
    for number in range(len(cuts)):
        client = seen[50000 + number, True]
        # The begin of a mark that is cut was shown as plain when it came.
        shown_early = (
            number - len(before) + 1 if len(before) < number + 1 < len(before + LIVE) else 0
        )
        assert client.application == before + LIVE[:shown_early] + after, number
        assert (client.module, client.tags, client.experts) == (after, ["1"], []), number


def test_segments_that_come_again_late_or_early_make_the_same_stream(
    tshark: Tshark, options: list[str]
) -> None:
    source = random.Random(7)  # noqa: S311
    application = bytes(range(256)) * 8
    segments: list[Segment] = []
    for number in range(40):
        pieces = every(mark() + tagged(application, 100), source.randrange(20, 400))
        one = on_ports(pieces)
        for _ in range(source.randrange(1, 8)):
            at = source.randrange(3, len(one) - 4)
            if source.random() < 0.5:
                one[at], one[at + 1] = one[at + 1], one[at]
            else:
                one.insert(source.randrange(at, len(one) - 3), one[at])
        segments += [renumbered(segment, 50000 + number) for segment in one]
    seen = shown(tshark, segments, *options)
    for number in range(40):
        assert seen[50000 + number, True].module == application, number
        assert len(seen[50000 + number, True].tags) == 21, number


def test_what_the_capture_lost_is_said_and_read_over_where_the_format_allows(
    tshark: Tshark, options: list[str]
) -> None:
    good = mark() + data(b"a" * 400, tag(1)) + data(b"b" * 400, tag(2)) + END
    streams = [good + b"end", good[:-4] + LIVE + data(b"live", tag(3)) + END + b"end"]
    segments: list[Segment] = []
    for number, (stream, lost) in enumerate(zip(streams, (1, 3), strict=True)):
        one = on_ports(in_pieces(stream, 100, 200, 300, 480, 500, 600))
        # What the peer acknowledged will not come any more.
        acknowledging = replace(turned(one[-3]), flags=ACK, acknowledged=one[-3].sequence)
        one.insert(5 + lost, acknowledging)
        del one[3 + lost]
        segments += [renumbered(segment, 50000 + number) for segment in one]
    seen = shown(tshark, segments, *options)
    assert seen[50000, True].module == b"a" * 300 + b"b" * 400
    assert seen[50000, True].experts == ["gap"]
    assert seen[50001, True].tags == ["1", "3"]
    assert seen[50001, True].module == b"a" * 248 + b"live"
    assert seen[50001, True].experts == ["gap"]
    for client in seen[50000, True], seen[50001, True]:
        assert client.application.endswith(b"end")


def test_a_capture_of_parts_of_packets_says_so(tshark: Tshark, options: list[str]) -> None:
    stream = mark() + tagged(b"x" * 4000, 2000) + END
    segments = [replace(s, captured=300) for s in on_ports(every(stream, 1000))]
    seen = shown(tshark, segments, *options)
    assert seen[50000, True].experts.count("gap") == 4
    assert set(seen[50000, True].module) == {ord("x")}


@pytest.mark.parametrize("port", [NOBODY, 80])
def test_a_capture_that_begins_with_the_data(tshark: Tshark, options: list[str], port: int) -> None:
    segments = on_ports([mark() + tagged(REQUEST), tagged(REQUEST)], port=port)[3:]
    seen = shown(tshark, segments, *options)
    assert seen[50000, True].module == REQUEST * 2
    names = ["l45.mark.token", "http.request.uri"]
    rows = tshark.fields(segments, names, *options)
    assert rows[0][0] == TOKEN.hex()
    assert [row[1] for row in rows[:2]] == (["/file"] * 2 if port == 80 else ["", ""])


def test_a_capture_from_the_middle_is_plain_until_a_live_mark(
    tshark: Tshark, options: list[str]
) -> None:
    stream = mark() + tagged(b"x" * 500, 100) + LIVE + data(b"live", tag(9))
    seen = shown(tshark, on_ports(every(stream, 300))[4:], *options)
    assert seen[50000, True].module == b"live"
    assert seen[50000, True].tags == ["9"]


# -- live marks in HTTP


@pytest.mark.parametrize("size", [100, 1400, 60000])
def test_a_live_mark_within_a_message_of_http(
    tshark: Tshark, options: list[str], size: int
) -> None:
    half = len(REQUEST) // 2
    stream = REQUEST[:half] + LIVE + tagged(REQUEST[half:]) + tagged(REQUEST)
    exchange = Connection().client(*every(stream, size)).close()
    rows = tshark.fields(list(exchange), ["http.request.uri"], "-Y", "http.request", *options)
    assert "".join(uri for (uris,) in rows for uri in uris.split(",")) == "/file" * 2


def test_a_live_mark_within_a_body_that_http_waits_for(tshark: Tshark, options: list[str]) -> None:
    stream = RESPONSE[:2000] + LIVE + tagged(RESPONSE[2000:])
    exchange = Connection().client(REQUEST).server(*every(stream, 1000)).close()
    names = ["l45.mark.token", "l45.stream_tag.tag", "http.response.code", "http.content_length"]
    rows = tshark.fields(list(exchange), names, *options)
    assert [row[0] for row in rows if row[0]] == [TOKEN.hex()]
    assert sum(len(row[1].split(",")) for row in rows if row[1]) == 5
    # HTTP's header is shown when Wireshark's TCP has as many bytes as the message was to have.
    assert [row[2:] for row in rows if row[2]] == [["200", str(len(BODY))]]


# -- passes, files, columns


def test_two_passes_show_the_same(tshark: Tshark, options: list[str]) -> None:
    exchange = Connection().client(*every(mark() + tagged(REQUEST, 9), 50))
    exchange.server(*every(mark() + tagged(RESPONSE), 1400))
    exchange.client(*every(data(b"abc" * 9, tag()) + END + REQUEST, 11)).close()
    names = "_ws.col.Protocol _ws.col.Info frame.protocols l45.mark.token l45.application data.data"
    names += " l45.stream_tag.tag l45.plain http.request.uri http.response.code _ws.expert.message"
    once = tshark.fields(list(exchange), names.split(), *options)
    assert once == tshark.fields(list(exchange), names.split(), "-2", *options)
    # With a filter, the first pass has all fields: the second one only shows.
    assert once == tshark.fields(list(exchange), names.split(), "-2", "-R", "tcp", *options)


@pytest.mark.parametrize("manifests", [[STREAM_TAG], [STREAM_XOR], [STREAM_XOR, STREAM_TAG]])
def test_each_file_is_enough_and_all_go_together(tshark: Tshark, manifests: list[Manifest]) -> None:
    streams = [[mark(b"STAG") + data(b"abc", tag(3))], [mark(b"SXOR") + data(SECRET)]]
    names = ["frame.protocols", "l45.application", "l45.head", "l45.opaque", "l45.expert.signature"]
    rows = tshark.fields(on_ports(*streams), names, *tshark.dissectors(*manifests))
    stag, sxor = (row for row in rows if ":l45" in row[0])
    if STREAM_TAG in manifests:
        assert ":l45.stream_tag:" in stag[0]
        assert stag[1:] == [b"abc".hex(), "", "", ""]
    else:
        assert stag[1:4] == [b"abc".hex(), tag(3).hex(), ""]
        assert stag[4]
    if STREAM_XOR in manifests:
        assert sxor[0].endswith(":l45.stream_xor")
        assert sxor[1:] == ["", "", "", ""]
    else:
        assert sxor[1:4] == ["", "", SECRET.hex()]
        assert sxor[4]


def test_columns(tshark: Tshark, options: list[str]) -> None:
    exchange = Connection().client(
        mark() + data(b"GET / HT", tag()), data(b"TP/1.1\r\n\r\n", tag()), switch(b"SXOR", 2)
    )
    names = ["_ws.col.Protocol", "_ws.col.Info", "frame.protocols"]
    rows = tshark.fields(list(exchange), names, *options)[3:]
    ours = "eth:ethertype:ip:tcp:l45"
    assert rows == [
        ["L4.5", "Customized stream: Start STAG", f"{ours}:l45.stream_tag"],
        ["HTTP", "GET / HTTP/1.1 ", f"{ours}:l45.stream_tag:http"],
        ["L4.5", "Customized stream: Switch to SXOR", ours],
    ]


@pytest.mark.parametrize(
    ("display_filter", "frames"),
    [
        ("l45", ["4", "5", "6"]),
        ("l45.mark", ["4"]),
        ("l45.mark.kind == 0x4e", ["4"]),
        ('l45.signature == "SXOR"', ["6"]),
        ("l45.frame.type == 0x53", ["6"]),
        ("l45.stream_tag.tag == 42", ["4", "5"]),
        ("http.request && l45", ["5"]),
    ],
)
def test_display_filters(
    tshark: Tshark, options: list[str], display_filter: str, frames: list[str]
) -> None:
    exchange = Connection().client(
        mark() + data(b"GET / HT", tag()), data(b"TP/1.1\r\n\r\n", tag()), switch(b"SXOR", 2)
    )
    rows = tshark.fields(list(exchange), ["frame.number"], "-Y", display_filter, *options)
    assert [number for (number,) in rows] == frames
