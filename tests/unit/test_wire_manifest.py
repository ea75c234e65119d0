"""Manifests: a bad one is refused with its place; parameters are packed as C reads them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.manifest import Manifest, ManifestError, load, pack_parameters

MODULES = Path(__file__).parents[2] / "kernel_tap" / "modules"

GOOD = """
name = "stamp"
version = "1.2.3"
summary = "Stamps each message"
transport = "udp"
targets = ["user", "bpf"]
growth = 8
client = { send = true }
server = { receive = true }

[[parameter]]
name = "level"
type = "u8"
min = 1
max = 9
default = 5
unit = "steps"
meaning = "How much"

[[parameter]]
name = "mark"
type = "u32"
default = 0x01020304
meaning = "What to write"

[wire]
summary = "A stamp"
direction = "both"
payload = "data"

[[wire.field]]
name = "magic"
label = "Magic"
type = "u16"
value = 0xabcd

[[wire.field]]
name = "size"
label = "Size"
type = "u8"

[[wire.field]]
name = "rest"
label = "Rest"
type = "bytes"
length_from = "size"
"""


def write(tmp_path: Path, text: str, folder: str = "stamp") -> Path:
    path = tmp_path / folder / "manifest.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(MODULES.glob("*/manifest.toml")), ids=str)
def test_the_modules_here_have_good_manifests(path: Path) -> None:
    manifest = load(path)
    assert manifest.name == path.parent.name
    assert len(pack_parameters(manifest, {})) == sum(p.size for p in manifest.parameters)


def test_a_good_manifest_is_read(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, GOOD))
    assert manifest.client.send
    assert not manifest.client.receive
    assert manifest.wire is not None
    assert [field.name for field in manifest.wire.constants] == ["magic"]
    assert [field.fixed_size for field in manifest.wire.fields] == [2, 1, None]


@pytest.mark.parametrize(
    ("old", "new", "place", "fault"),
    [
        ('name = "stamp"', 'name = "Stamp!"', "name", "not of the form"),
        ('name = "stamp"', "", "name", "required"),
        ("growth = 8", "growth = -1", "growth", "greater than or equal to 0"),
        ("growth = 8", "growth = 8\nsize = 8", "size", "no such setting"),
        ("growth = 8", 'growth = "much"', "growth", "integer"),
        ('"1.2.3"', '"one"', "version", "not of the form"),
        ('["user", "bpf"]', "[]", "targets", "at least 1"),
        ('["user", "bpf"]', '["vax"]', "targets.0", "'bpf', 'kmod' or 'user'"),
        ("max = 9", "max = 256", "parameter.0", "max 256 does not fit u8"),
        ("default = 5", "default = 0", "parameter.0", "default 0 is not within 1..9"),
        ("default = 5", "", "parameter.0.default", "required"),
        ('name = "mark"', 'name = "level"', "whole", "two parameters have the same name"),
        ("value = 0xabcd", "value = 0x1abcd", "wire.field.0", "does not fit u16"),
        ("value = 0xabcd", "", "wire", "no signature"),
        (
            'direction = "both"',
            'direction = "both"\nsignature = "STMP"',
            "wire",
            "for transport tcp",
        ),
        ('direction = "both"', 'direction = "both"\ncontent = "head"', "wire", "for transport tcp"),
        ('label = "Magic"', 'label = ""', "wire.field.0.label", "at least 1"),
        ("value = 0xabcd", "value = 0xabcd\nlength = 2", "wire.field.0", "length of its own"),
        ('name = "size"', 'name = "magic"', "wire", "two fields have the same name"),
        ('length_from = "size"', 'length_from = "rest"', "wire", "no earlier integer field"),
        ('length_from = "size"', "", "wire", "only the last field can be without length"),
        ('length_from = "size"', 'length_from = "size"\nlength = 1', "wire.field.2", "exclude"),
        ('length_from = "size"', "value = 1", "wire.field.2", "for integers only"),
        ('type = "bytes"', 'type = "dns_name"', "wire.field.2", "length of its own"),
    ],
)
def test_a_bad_manifest_is_refused_with_file_and_place(
    tmp_path: Path, old: str, new: str, place: str, fault: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ManifestError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert f" {place}: " in str(refused.value)
    assert fault in str(refused.value)


STREAM = """
name = "stamp"
version = "1.2.3"
summary = "Stamps a stream"
transport = "tcp"
targets = ["user"]
growth = 8
client = { send = true, receive = true }
server = {}
"""
WIRE = """
[wire]
summary = "A stamp"
direction = "both"
signature = "STMP"
content = "head"
"""
FIELD = """
[[wire.field]]
name = "stamp"
label = "Stamp"
type = "u64"
"""


def test_a_stream_module_is_read(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, STREAM + WIRE + FIELD))
    assert manifest.wire is not None
    assert (manifest.wire.signature, manifest.wire.content) == ("STMP", "head")
    assert manifest.wire.constants == []


def test_a_stream_module_that_transforms_has_no_fields(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, STREAM + WIRE.replace("head", "whole")))
    assert manifest.wire is not None
    assert manifest.wire.fields == []


def test_a_stream_module_may_leave_no_trace_on_the_wire(tmp_path: Path) -> None:
    assert load(write(tmp_path, STREAM.replace("growth = 8", "growth = 0"))).wire is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (STREAM.replace("tcp", "udp"), "wire: transport udp needs a [wire]"),
        (STREAM, "growth: bytes that are added stand on the wire: describe them"),
        (STREAM.replace("= 8", "= 256") + WIRE + FIELD, "growth: a frame of a stream has room"),
        (STREAM.replace("= 8", "= 7") + WIRE + FIELD, "take 8 bytes, growth allows 7"),
        (STREAM + WIRE, "needs fields that say what is in the head"),
        (STREAM + WIRE.replace("head", "whole") + FIELD, "has no head, leave them out"),
        (STREAM + WIRE.replace('content = "head"', "") + FIELD, '`content`, "head" or "whole"'),
        (STREAM + WIRE.replace('signature = "STMP"', "") + FIELD, "`signature`, four ASCII"),
        (STREAM + WIRE + 'payload = "http"' + FIELD, "payload is for transport udp: leave it out"),
        (STREAM + WIRE.replace("STMP", "STAMP") + FIELD, "wire.signature: "),
        (STREAM + WIRE.replace("STMP", "STM") + FIELD, "wire.signature: "),
        (STREAM + WIRE.replace("STMP", "STMÜ") + FIELD, "wire.signature: "),
        (STREAM + WIRE.replace("STMP", "STM\\n") + FIELD, "wire.signature: "),
        (STREAM + WIRE.replace('"head"', '"tail"') + FIELD, "wire.content: "),
    ],
)
def test_a_bad_wire_form_of_a_stream_is_refused_with_what_to_do(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        load(write(tmp_path, text))
    assert fault in str(refused.value)


def test_too_many_parameters_are_refused(tmp_path: Path) -> None:
    many = "".join(
        f'[[parameter]]\nname = "p{n}"\ntype = "u64"\ndefault = 0\nmeaning = "m"\n'
        for n in range(9)
    )
    with pytest.raises(ManifestError, match="more than 64 bytes"):
        load(write(tmp_path, GOOD.replace("[wire]", many + "[wire]", 1)))


@pytest.mark.parametrize("text", ["name = ", "\x00", "[[wire]]\n[wire]"])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.toml: "):
        load(write(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ManifestError, match=r"manifest\.toml: "):
        load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        load(tmp_path / "stamp" / "manifest.toml")


def test_the_folder_is_named_as_the_module(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="folder must be named 'stamp'"):
        load(write(tmp_path, GOOD, folder="other"))


def test_parameters_are_packed_in_order_unpadded_and_little_endian(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, GOOD))
    assert pack_parameters(manifest, {}) == b"\x05\x04\x03\x02\x01"
    assert pack_parameters(manifest, {"mark": 1, "level": 9}) == b"\x09\x01\x00\x00\x00"


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"colour": 1}, "stamp has no parameter 'colour'; it has: level, mark"),
        ({"level": 0}, "level = 0 is not within 1..9 steps"),
        ({"level": 10}, "level = 10 is not within 1..9 steps"),
        ({"mark": -1}, "mark = -1 is not within 0..4294967295"),
        ({"mark": 2**32}, "is not within 0..4294967295"),
    ],
)
def test_bad_parameters_are_refused_by_name(
    tmp_path: Path, values: dict[str, int], fault: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        pack_parameters(load(write(tmp_path, GOOD)), values)
    assert fault in str(refused.value)


SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


@given(st.lists(st.sampled_from(sorted(SIZES)), max_size=8), st.data())
def test_packed_parameters_can_be_read_back(types: list[str], data: st.DataObject) -> None:
    wanted = {
        f"p{n}": data.draw(st.integers(0, 2 ** (8 * SIZES[t]) - 1)) for n, t in enumerate(types)
    }
    manifest = Manifest.model_validate(
        {
            "name": "m",
            "version": "1.0.0",
            "summary": "",
            "transport": "udp",
            "targets": ["user"],
            "growth": 0,
            "client": {},
            "server": {},
            "parameter": [
                {"name": f"p{n}", "type": t, "default": 0, "meaning": ""}
                for n, t in enumerate(types)
            ],
            "wire": {
                "summary": "",
                "direction": "both",
                "field": [{"name": "f", "label": "F", "type": "u8", "value": 1}],
            },
        }
    )
    packed, found = pack_parameters(manifest, wanted), {}
    for n, t in enumerate(types):
        found[f"p{n}"], packed = int.from_bytes(packed[: SIZES[t]], "little"), packed[SIZES[t] :]
    assert found == wanted
    assert packed == b""
