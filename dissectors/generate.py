"""The Wireshark dissector of a module, made from the wire format in its manifest.

`python -m dissectors.generate MODULE [-o FILE]` writes Lua for Wireshark 4.0 and later.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2

from wire.manifest import INTEGER_BYTES, Bits, Manifest, ManifestError, WireField, load

MODULES = Path(__file__).parent.parent / "kernel_tap" / "modules"

STREAM = Path(__file__).parent / "stream"
STREAM_PARTS = ("frames.lua", "segments.lua", "content.lua", "show.lua", "main.lua")
"""The dissector of frames, one chunk of Lua in parts; each uses the ones before it."""

PROTO_FIELDS = {
    "u8": "uint8",
    "u16": "uint16",
    "u24": "uint24",
    "u32": "uint32",
    "u64": "uint64",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "ether": "ether",
    "string": "string",
    "bytes": "bytes",
    "dns_name": "string",
}
"""Wireshark's `ProtoField` constructor for each type of field."""


class DissectorError(ValueError):
    """No dissector can be made of this manifest; the text says why."""


def generate(manifest: Manifest) -> str:
    """Return the dissector of a module as Lua source.

    Each of a stream module brings the dissector of the frames along, which is there once however
    many are loaded. Raises DissectorError for a module that cannot be seen on the wire.
    """
    if manifest.wire is None:
        raise DissectorError(
            f"module {manifest.name} leaves no trace on the wire: there is nothing to dissect"
        )
    environment = _environment()
    values = {"manifest": manifest, "prefix": f"l45.{manifest.name}", "integers": INTEGER_BYTES}
    if manifest.transport == "udp":
        return environment.get_template("dissector.lua.j2").render(values)
    shared = "".join((STREAM / name).read_text(encoding="utf-8") for name in STREAM_PARTS)
    return environment.get_template("stream.lua.j2").render(values, shared=shared)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - makes Lua, every text goes through the filter `lua`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        lua=_lua, item=_item, bits_item=_bits_item, names=_names, constant=_constant, shift=_shift
    )
    return environment


def _lua(text: str) -> str:
    """Return `text` as a Lua string that no character of it can end."""
    escaped = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03d}"
        for byte in text.encode()
    )
    return f'"{"".join(escaped)}"'


def _item(field: WireField, prefix: str) -> str:
    arguments = [_lua(f"{prefix}.{field.name}"), _lua(field.label)]
    if field.type in INTEGER_BYTES:
        arguments += [f"base.{field.base.upper()}", _value_string(field, field.values)]
    return f"ProtoField.{PROTO_FIELDS[field.type]}({', '.join(arguments)})"


def _bits_item(bits: Bits, field: WireField, prefix: str) -> str:
    arguments = [_lua(f"{prefix}.{field.name}.{bits.name}"), _lua(bits.label), "base.DEC"]
    arguments.append(_value_string(field, bits.values))
    if field.type != "u64":  # more than wslua keeps; the template adds the value itself
        arguments.append(f"0x{bits.mask:x}")
    return f"ProtoField.{PROTO_FIELDS[field.type]}({', '.join(arguments)})"


def _value_string(field: WireField, values: dict[int, str]) -> str:
    if not values or field.type == "u64":  # as with the mask
        return "nil"
    return _table({str(value): name for value, name in values.items()})


def _names(values: dict[int, str]) -> str:
    """Return the table that says what a value means, by its decimal digits: exact to 64 bits."""
    return _table({_lua(str(value)): name for value, name in values.items()})


def _table(entries: dict[str, str]) -> str:
    return "{ " + ", ".join(f"[{key}] = {_lua(text)}" for key, text in entries.items()) + " }"


def _constant(field: WireField) -> str:
    """Return the bytes of a constant field in hexadecimal, as they are on the wire."""
    return (field.value or 0).to_bytes(INTEGER_BYTES[field.type], "big").hex()


def _shift(mask: int) -> int:
    """Return how many zero bits `mask` ends with."""
    return (mask & -mask).bit_length() - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the dissector of the module that the command line names."""
    parser = argparse.ArgumentParser(prog="dissectors.generate", description=__doc__)
    parser.add_argument("module", help="folder of a module, or its name")
    parser.add_argument("-o", "--output", type=Path, help="file to write; standard output if none")
    options = parser.parse_args(arguments)
    folder = Path(options.module) if "/" in options.module else MODULES / options.module
    try:
        text = generate(load(folder / "manifest.toml"))
        if options.output:
            options.output.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
    except (ManifestError, DissectorError, OSError) as error:
        print(f"dissectors.generate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
