"""The dissector of dns_compress in real tshark: what an analyst reads, and what is marked."""

from __future__ import annotations

import pytest

from tests import vectors
from tests.pcap import Datagram
from tests.tshark import Tshark, experts
from wire.manifest import load

MANIFEST = load(vectors.MODULES / "dns_compress" / "manifest.toml")
WIRE = bytes.fromhex("444e5343 1a2b 03777777 076578616d706c65 036f7267 00 0041 0001")
QUERY = bytes.fromhex("1a2b 0120 0001 0000 0000 0000 03777777 00 0001 0001")
EXPERT = "l45.dns_compress.expert."


def test_name_type_and_class_can_be_read(tshark: Tshark) -> None:
    text = tshark.text([Datagram(WIRE)], "-V", *tshark.dissectors(MANIFEST))
    assert text.rstrip().endswith(
        "\nLayer 4.5 Cust Protocol Data, Module: dns_compress\n"
        "    Signature: 0x444e5343\n"
        "    Transaction ID: 0x1a2b\n"
        "    Name: www.example.org\n"
        "    Type: HTTPS (65)\n"
        "    Class: IN (1)"
    )


def test_every_valid_vector_has_its_fields_and_no_fault(tshark: Tshark) -> None:
    valid = [v.wire for v in vectors.to_receive("dns_compress") if v.kind == "valid" and v.wire]
    shown = tshark.layers([Datagram(w) for w in valid], *tshark.dissectors(MANIFEST))
    for wire, layers in zip(valid, shown, strict=True):
        fields = {
            key.removeprefix("l45.dns_compress."): value
            for key, value in layers["l45.dns_compress"].items()
        }
        assert fields["id"] == "0x" + wire[4:6].hex()
        assert fields["type"] == str(int.from_bytes(wire[-4:-2], "big"))
        assert fields["class"] == str(int.from_bytes(wire[-2:], "big"))
        assert experts(layers["l45.dns_compress"]) <= {EXPERT + "value"}
    names = [layers["l45.dns_compress"]["l45.dns_compress.name"] for layers in shown]
    assert {"www.example.org", ".", "ab", r"\.\000A\255\\\192\127"} <= set(names)


def test_what_the_server_would_not_restore_is_marked(tshark: Tshark) -> None:
    """In the dissector as in `recv`: the wire forms that it passes are those with a fault."""
    received = [v for v in vectors.to_receive("dns_compress") if v.wire]
    signed = {v.wire: v.recv for v in received if v.wire and v.wire.startswith(b"DNSC")}
    shown = tshark.layers([Datagram(w) for w in signed], *tshark.dissectors(MANIFEST))
    for (wire, verdict), layers in zip(signed.items(), shown, strict=True):
        faults = experts(layers["l45.dns_compress"]) - {EXPERT + "value"}
        assert (faults == set()) == (verdict == "done"), wire.hex()
        assert faults <= {EXPERT + kind for kind in ("truncated", "dns_name", "rest")}


@pytest.mark.parametrize(
    ("display_filter", "frames"),
    [
        ("l45.dns_compress", ["1"]),
        ('l45.dns_compress.name == "www.example.org"', ["1"]),
        ("l45.dns_compress.type == 65 && l45.dns_compress.class == 1", ["1"]),
        ("dns", ["2"]),
    ],
)
def test_display_filters(tshark: Tshark, display_filter: str, frames: list[str]) -> None:
    rows = tshark.fields(
        [Datagram(WIRE), Datagram(QUERY)],
        ["frame.number"],
        *tshark.dissectors(MANIFEST),
        *("-Y", display_filter),
    )
    assert [number for (number,) in rows] == frames
