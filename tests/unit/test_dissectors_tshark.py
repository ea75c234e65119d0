"""Generated dissectors in real tshark: the vectors, every type of field, everything malformed."""

from __future__ import annotations

import random
import struct
from ipaddress import IPv6Address
from typing import Any

import pytest

from tests import vectors
from tests.pcap import Datagram
from tests.tshark import Tshark, experts
from wire.manifest import Manifest, load

DNS_APP_TAG = load(vectors.MODULES / "dns_app_tag" / "manifest.toml")
EVERY_FIELD = load(vectors.ROOT / "tests" / "data" / "every_field" / "manifest.toml")
FLAG = b"XTAG"
TAG = FLAG + b"dig".ljust(16, b"\0")
QUERY = bytes.fromhex("1a2b01200001000000000000 03777777 076578616d706c65 036f7267 00 0001 0001")
OTHER_QUERY = bytes.fromhex("3c4d01200001000000000000 03666f6f 036f7267 00 0001 0001")


def to_every_field(payload: bytes, captured: int | None = None) -> Datagram:
    return Datagram(payload, destination_port=45454, captured=captured)


def every_field(  # the defaults make a message without fault
    *,
    kind: int = 1,
    stamp: int = 2**64 - 1,
    padded: bytes = "café".encode(),
    host: bytes = b"\3www\7example\3org\0",
    text: bytes = b"abc",
    data_size: int = 2,
    trailer: bytes = "trü".encode(),
) -> bytes:
    return (
        bytes.fromhex("feed45")
        + struct.pack("!BHIQH", kind, 0x8AA1, 258, stamp, 0x0102)
        + bytes([10, 10, 0, 3])
        + IPv6Address("2001:db8::1").packed
        + bytes.fromhex("020000000009")
        + padded.ljust(8, b"\0")
        + b"12345"
        + host
        + struct.pack("!B", len(text))
        + text
        + struct.pack("!Q", data_size)
        + b"\xde\xad"
        + trailer
    )


def l45(layers: dict[str, Any], module: str = "dns_app_tag") -> Any:  # noqa: ANN401 - JSON
    return layers.get(f"l45.{module}")


# -- the vectors of dns_app_tag


def test_wire_form_of_each_vector_is_named_and_the_query_behind_it_dissected(
    tshark: Tshark,
) -> None:
    done = [v for v in vectors.to_receive("dns_app_tag") if v.recv == "done"]
    datagrams = [Datagram(v.wire or b"") for v in done]
    for vector, layers in zip(
        done, tshark.layers(datagrams, *tshark.dissectors(DNS_APP_TAG)), strict=True
    ):
        assert l45(layers)["l45.dns_app_tag.flag"] == "0x58544147", vector.name
        assert ("dns" in layers) == bool(vector.received), vector.name
        if vector.received:
            assert layers["dns"]["dns.id"] == "0x" + vector.received[:2].hex(), vector.name


def test_valid_vectors_show_the_process_and_no_fault(tshark: Tshark) -> None:
    valid = [v for v in vectors.to_receive("dns_app_tag") if v.kind == "valid"]
    datagrams = [Datagram(v.wire or b"") for v in valid]
    shown = tshark.layers(datagrams, *tshark.dissectors(DNS_APP_TAG))
    assert [l45(layers)["l45.dns_app_tag.app_id"] for layers in shown] == [
        vector.process for vector in valid
    ]
    assert [experts(l45(layers)) for layers in shown] == [set()] * len(valid)


def test_truncated_vectors_with_the_flag_are_marked(tshark: Tshark) -> None:
    cut = [v.wire for v in vectors.load("dns_app_tag") if v.kind == "truncated" and v.wire]
    flagged = [wire for wire in cut if wire.startswith(FLAG)]
    shown = tshark.layers([Datagram(w) for w in flagged], *tshark.dissectors(DNS_APP_TAG))
    assert [experts(l45(layers)) for layers in shown] == [
        {f"l45.dns_app_tag.expert.{'rest' if len(wire) == len(TAG) else 'truncated'}"}
        for wire in flagged
    ]
    assert len(flagged) >= 3


def test_hostile_name_is_marked(tshark: Tshark) -> None:
    hostile = [
        v.wire
        for v in vectors.to_receive("dns_app_tag")
        if v.kind == "hostile" and v.wire and v.wire[4:5] == b"\xff"
    ]
    (layers,) = tshark.layers([Datagram(w) for w in hostile], *tshark.dissectors(DNS_APP_TAG))
    assert experts(l45(layers)) == {"l45.dns_app_tag.expert.encoding"}


def test_what_is_not_ours_is_dissected_as_ever(tshark: Tshark) -> None:
    payloads = [v.wire for v in vectors.to_receive("dns_app_tag") if v.wire]
    payloads += [v.application for v in vectors.load("dns_app_tag") if v.application]
    payloads += [QUERY[:n] for n in range(1, len(QUERY))]
    plain = [Datagram(p) for p in payloads if not p.startswith(FLAG)]
    plain.append(Datagram(b"\x3c\x4d\x81\x80" + QUERY[4:], source_port=53, destination_port=4000))
    with_ours = tshark.text(plain, "-V", *tshark.dissectors(DNS_APP_TAG))
    # The only trace: Wireshark lists every dissector that was asked.
    assert with_ours.replace(":l45.dns_app_tag:dns]", ":dns]") == tshark.text(plain, "-V")


# -- columns, filters, ports


def test_columns_are_those_of_the_dissector_that_goes_on(tshark: Tshark) -> None:
    rows = tshark.fields(
        [Datagram(TAG + QUERY), Datagram(QUERY), Datagram(TAG[:9])],
        ["_ws.col.Protocol", "_ws.col.Info", "l45.dns_app_tag.app_id"],
        *tshark.dissectors(DNS_APP_TAG),
    )
    assert rows == [
        ["DNS", "Standard query 0x1a2b A www.example.org", "dig"],
        ["DNS", "Standard query 0x1a2b A www.example.org", ""],
        ["L4.5", "Module dns_app_tag", ""],
    ]


def test_tree_is_that_of_the_dissertation(tshark: Tshark) -> None:
    text = tshark.text([Datagram(TAG + QUERY)], "-V", *tshark.dissectors(DNS_APP_TAG))
    assert (
        "\nLayer 4.5 Cust Protocol Data, Module: dns_app_tag\n"
        "    Flag: 0x58544147\n"
        "    Application ID: dig\n"
        "Domain Name System (query)\n"
    ) in text


@pytest.mark.parametrize(
    ("display_filter", "frames"),
    [
        ("l45.dns_app_tag", ["1", "3", "4"]),
        ('l45.dns_app_tag.app_id == "dig"', ["1"]),
        ("l45.dns_app_tag.flag == 0x58544147", ["1", "3", "4"]),
        ("dns && !l45.dns_app_tag", ["2"]),
        ("l45.dns_app_tag.expert.truncated", ["4"]),
        ("l45.dns_app_tag && dns.qry.name == www.example.org", ["1", "3"]),
    ],
)
def test_display_filters(tshark: Tshark, display_filter: str, frames: list[str]) -> None:
    datagrams = [TAG + QUERY, QUERY, FLAG + b"curl".ljust(16, b"\0") + QUERY, TAG[:9]]
    rows = tshark.fields(
        [Datagram(p) for p in datagrams],
        ["frame.number"],
        *tshark.dissectors(DNS_APP_TAG),
        *("-Y", display_filter),
    )
    assert [number for (number,) in rows] == frames


def test_malformed_query_behind_the_tag_is_the_query_s_fault(tshark: Tshark) -> None:
    cut = [Datagram(TAG + QUERY[:n]) for n in range(1, len(QUERY))]
    shown = tshark.layers(cut, *tshark.dissectors(DNS_APP_TAG))
    assert [l45(layers)["l45.dns_app_tag.app_id"] for layers in shown] == ["dig"] * len(cut)
    assert [experts(l45(layers)) for layers in shown] == [set()] * len(cut)
    assert all("_ws.malformed" in layers for layers in shown)


def test_other_ports_take_whole_messages_only(tshark: Tshark) -> None:
    payloads = [TAG + QUERY, TAG[:-1], QUERY, b"XTAF" + TAG[4:] + QUERY]
    datagrams = [Datagram(p, destination_port=40404) for p in payloads]
    shown = tshark.layers(datagrams, *tshark.dissectors(DNS_APP_TAG))
    assert [bool(l45(layers)) for layers in shown] == [True, False, False, False]
    # Wireshark has a heuristic of its own for plain DNS.
    assert ["dns" in layers for layers in shown] == [True, False, True, False]


def test_preference_moves_the_port_and_gives_the_old_one_back(tshark: Tshark) -> None:
    datagrams = [
        Datagram(TAG + QUERY),
        Datagram(OTHER_QUERY),
        Datagram(TAG[:9], destination_port=5353),
        Datagram(QUERY, destination_port=5353),
    ]
    options = [*tshark.dissectors(DNS_APP_TAG), "-o", "l45.dns_app_tag.port:5353"]
    protocols = tshark.fields(datagrams, ["frame.protocols"], *options)
    ours = "eth:ethertype:ip:udp:l45.dns_app_tag"
    plain = "eth:ethertype:ip:udp:dns"
    assert protocols == [[plain], [plain], [ours], [f"{ours}:mdns"]]


@pytest.mark.parametrize("first_port", [53, 0, 5353])
def test_two_modules_share_a_port(tshark: Tshark, first_port: int) -> None:
    twin = DNS_APP_TAG.model_dump(by_alias=True) | {"name": "twin"}
    twin["wire"]["field"][0]["value"] = int.from_bytes(b"TWIN", "big")
    datagrams = [Datagram(p) for p in (TAG + QUERY, b"TWIN" + TAG[4:] + QUERY, OTHER_QUERY)]
    options = tshark.dissectors(DNS_APP_TAG, Manifest.model_validate(twin))
    options += ["-o", f"l45.dns_app_tag.port:{first_port}"]
    shown = tshark.layers(datagrams, *options)
    assert all("dns" in layers for layers in shown)
    assert [sorted(key for key in layers if key.startswith("l45")) for layers in shown] == [
        ["l45.dns_app_tag"],
        ["l45.twin"],
        [],
    ]


# -- every type of field


def test_every_type_of_field_has_its_value(tshark: Tshark) -> None:
    (layers,) = tshark.layers([to_every_field(every_field())], *tshark.dissectors(EVERY_FIELD))
    shown = {
        key.removeprefix("l45.every_field."): value
        for key, value in l45(layers, "every_field").items()
    }
    control = {"urgent": "1", "class": "170", "mode": "1"}
    stamp = {"top": "15", "rest": str(2**60 - 1)}
    assert shown == {
        "magic": "0xfeed45",
        "kind": "1",
        "control": "0x8aa1",
        "control_tree": {f"l45.every_field.control.{k}": v for k, v in control.items()},
        "count": "258",
        "stamp": str(2**64 - 1),
        "stamp_tree": {f"l45.every_field.stamp.{k}": v for k, v in stamp.items()},
        "version": "258",
        "four": "10.10.0.3",
        "six": "2001:db8::1",
        "mac": "02:00:00:00:00:09",
        "padded": "café",
        "fixed": "31:32:33:34:35",
        "host": "www.example.org",
        "text_size": "3",
        "text": "abc",
        "data_size": "2",
        "data": "de:ad",
        "trailer": "trü",
    }


def test_values_and_bits_are_named(tshark: Tshark) -> None:
    text = tshark.text([to_every_field(every_field())], "-V", *tshark.dissectors(EVERY_FIELD))
    shown = [line.strip() for line in text.splitlines()]
    for line in (
        'Magic "number" \\ %s ü: 0xfeed45',
        'Kind: Hello "you" (1)',
        "1... .... .... .... = Urgent: yes (1)",
        ".... 1010 1010 .... = Class: 170",
        ".... .... .... ..01 = Mode: busy (1)",
        "Stamp: 18446744073709551615 (always)",
        "Top: 15 (high)",
    ):
        assert line in shown


def test_each_fault_has_its_expert_info(tshark: Tshark) -> None:
    faults = {
        every_field(kind=7): "value",
        every_field(stamp=5): "value",
        every_field(stamp=0x7 << 60): "value",
        every_field(padded=b"ab\0cd"): "padding",
        every_field(padded=b"\xff" * 8): "encoding",
        every_field(padded=b"\xc3\0\0"): "encoding",
        every_field(host=b"\3www\xc0\x0c"): "dns_name",
        every_field(host=b"\x40" + bytes(64) + b"\0"): "dns_name",
        every_field(host=b"\1a" * 127 + b"\1\0"): "dns_name",
        every_field(host=b"\3www\x3f"): "truncated",
        every_field(text=b"\xf0\x9f\x98"): "encoding",
        every_field(text=b"\0a"): "padding",
        every_field(trailer=b"\xed\xa0\x80"): "encoding",
        every_field(data_size=6, trailer=b"abc"): "length",
        every_field(data_size=2**64 - 1): "length",
    }
    shown = tshark.layers([to_every_field(p) for p in faults], *tshark.dissectors(EVERY_FIELD))
    assert [experts(l45(layers, "every_field")) for layers in shown] == [
        {f"l45.every_field.expert.{fault}"} for fault in faults.values()
    ]


def test_what_may_be_empty_or_full_is_no_fault(tshark: Tshark) -> None:
    payloads = [
        every_field(padded=b"12345678"),
        every_field(padded=b""),
        every_field(text=b"", data_size=0),
        every_field(stamp=0, trailer=b""),
    ]
    shown = tshark.layers([to_every_field(p) for p in payloads], *tshark.dissectors(EVERY_FIELD))
    assert [experts(l45(layers, "every_field")) for layers in shown] == [set()] * 4


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (b"\0", "."),
        (b"\3a.b\2c\\\0", r"a\.b.c\\"),
        (b"\4\0 \x7f\xfc\0", r"\000\032\127\252"),
        (b"\x3f" + b"x" * 63 + b"\0", "x" * 63),
        (b"\1a" * 127 + b"\0", ".".join("a" * 127)),
    ],
)
def test_domain_names_are_shown_as_in_a_zone_file(tshark: Tshark, host: bytes, shown: str) -> None:
    (layers,) = tshark.layers(
        [to_every_field(every_field(host=host))], *tshark.dissectors(EVERY_FIELD)
    )
    assert l45(layers, "every_field")["l45.every_field.host"] == shown
    assert experts(l45(layers, "every_field")) == set()


def test_truncation_at_every_byte_is_marked(tshark: Tshark) -> None:
    signed = len(bytes.fromhex("feed45"))
    whole = every_field(trailer=b"")
    shown = tshark.layers(
        [to_every_field(whole[:n]) for n in range(len(whole))], *tshark.dissectors(EVERY_FIELD)
    )
    faults = {"l45.every_field.expert.truncated", "l45.every_field.expert.length"}
    for length, layers in enumerate(shown):
        found = experts(l45(layers, "every_field"))
        assert found <= faults if length >= signed else l45(layers, "every_field") is None
        assert len(found) == (length >= signed), length


def test_a_cut_by_the_capture_is_told_from_a_short_message(tshark: Tshark) -> None:
    frames = [to_every_field(every_field(), captured=60), to_every_field(every_field()[:18])]
    rows = tshark.fields(frames, ["_ws.expert.message"], *tshark.dissectors(EVERY_FIELD))
    missing = "Version: 2 bytes wanted, 0 left"
    assert rows == [[f"{missing} (the capture holds only a part of the packet)"], [missing]]


def test_wrong_signature_is_nobody_s(tshark: Tshark) -> None:
    wrong = [
        b"\xfe\xed\x46" + every_field()[3:],
        every_field().replace(b"\x01\x02\x0a", b"\x09" * 3),
    ]
    shown = tshark.layers([to_every_field(p) for p in wrong], *tshark.dissectors(EVERY_FIELD))
    assert [l45(layers, "every_field") for layers in shown] == [None, None]
    assert all("data" in layers for layers in shown)


def test_bytes_behind_the_last_field_are_marked(tshark: Tshark) -> None:
    raw = EVERY_FIELD.model_dump(by_alias=True)
    raw["wire"]["field"] = raw["wire"]["field"][:4]
    short = Manifest.model_validate(raw)
    payloads = [every_field()[:10], every_field()[:12]]
    shown = tshark.layers([to_every_field(p) for p in payloads], *tshark.dissectors(short))
    assert [experts(l45(layers, "every_field")) for layers in shown] == [
        set(),
        {"l45.every_field.expert.rest"},
    ]


def test_mutilated_messages_never_raise_an_error_in_lua(tshark: Tshark) -> None:
    source = random.Random(45)  # noqa: S311 - the same messages in every run
    datagrams = []
    for _ in range(1500):
        payload = bytearray(source.choice([every_field(), TAG + QUERY]))
        for _ in range(source.randrange(1, 6)):
            payload[source.randrange(3, len(payload))] = source.randrange(256)
        del payload[source.randrange(3, len(payload) + 1) :]
        datagrams.append(Datagram(bytes(payload), destination_port=source.choice([53, 45454])))
    options = tshark.dissectors(DNS_APP_TAG, EVERY_FIELD)
    found = tshark.layers(datagrams, *options)  # fails on any error in Lua
    assert sum("l45.every_field" in layers for layers in found) > 300
    assert sum("l45.dns_app_tag" in layers for layers in found) > 300
