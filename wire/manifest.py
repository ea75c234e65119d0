"""The manifest of a module: what it is called, where it runs, what it does to the wire.

`kernel_tap/modules/NAME/manifest.toml` is the only place where a module is described: the
planner reads roles and default match, the tap gets packed parameters, the dissector and the docs
are made from the wire format.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from wire.match import Comm, Port, Transport
from wire.messages import DNS_LABEL, MAX_PARAMETERS, ModuleName, Target

FORMS = {DNS_LABEL: "one DNS label: lower-case letters, digits and '-'"}
"""What is said of a pattern that an operator's words did not match."""

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]

INTEGER_BYTES = {"u8": 1, "u16": 2, "u24": 3, "u32": 4, "u64": 8}
"""Size of the integer types of wire fields and parameters; on the wire in network order."""

FIXED_BYTES = INTEGER_BYTES | {"ipv4": 4, "ipv6": 16, "ether": 6}

MAX_HEAD = 255
"""Most bytes of a module's head in a frame of a stream."""

Label = Annotated[str, Field(min_length=1)]
"""What Wireshark shows; it takes no empty name."""


class ManifestError(ValueError):
    """A manifest cannot be used; the text names the file, the place and what is wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Parameter(_Part):
    """A value that the operator may set for each customization."""

    name: Identifier
    type: Literal["u8", "u16", "u32", "u64"]
    meaning: str
    unit: str = ""
    min: Annotated[int, Field(ge=0)] = 0
    max: int | None = None
    """The largest value of the type where left out."""
    default: int

    @property
    def size(self) -> int:
        """Bytes of the packed value."""
        return INTEGER_BYTES[self.type]

    @property
    def upper(self) -> int:
        """The largest value allowed."""
        return (1 << 8 * self.size) - 1 if self.max is None else self.max

    @model_validator(mode="after")
    def _bounds(self) -> Parameter:
        if self.upper >= 1 << 8 * self.size:
            raise ValueError(f"max {self.upper} does not fit {self.type}")
        if not self.min <= self.default <= self.upper:
            raise ValueError(f"default {self.default} is not within {self.min}..{self.upper}")
        return self


class Role(_Part):
    """What the module does on one side: in which directions it acts."""

    send: bool = False
    receive: bool = False


class Bits(_Part):
    """A part of an integer field, for the dissector."""

    name: Identifier
    label: Label
    mask: Annotated[int, Field(gt=0)]
    values: dict[int, str] = {}


class WireField(_Part):
    """One field of the wire form, in the order of the wire.

    Integers are in network order. `string` is UTF-8 padded with NUL to `length`. `bytes` and
    `string` take their length in bytes from `length`, from the earlier integer field named in
    `length_from`, or, with neither (last field only), reach to the end of the message. `dns_name`
    is a domain name without compression (RFC 1035, 3.1), which ends by itself.
    `value` makes the field constant: the constant fields are the signature of the wire form.
    """

    name: Identifier
    label: Label
    type: Literal[
        "u8", "u16", "u24", "u32", "u64", "ipv4", "ipv6", "ether", "string", "bytes", "dns_name"
    ]
    meaning: str = ""
    value: Annotated[int, Field(ge=0)] | None = None
    base: Literal["dec", "hex"] = "dec"
    values: dict[int, str] = {}
    bits: list[Bits] = []
    length: Annotated[int, Field(ge=1, le=1500)] | None = None
    length_from: Identifier | None = None

    @property
    def fixed_size(self) -> int | None:
        """Size in bytes where every message has the same, else None."""
        return FIXED_BYTES.get(self.type, self.length)

    @model_validator(mode="after")
    def _consistent(self) -> WireField:
        integer = INTEGER_BYTES.get(self.type)
        if integer is None and (self.value is not None or self.values or self.bits):
            raise ValueError(f"field {self.name}: value, values and bits are for integers only")
        if integer and max([self.value or 0, *(b.mask for b in self.bits)]) >= 1 << 8 * integer:
            raise ValueError(f"field {self.name}: value or mask does not fit {self.type}")
        ends_by_itself = self.type in FIXED_BYTES or self.type == "dns_name"
        if ends_by_itself and (self.length or self.length_from):
            raise ValueError(f"field {self.name}: {self.type} has a length of its own")
        if self.length and self.length_from:
            raise ValueError(f"field {self.name}: length and length_from exclude each other")
        return self


class WireFormat(_Part):
    """What a module's wire form looks like.

    Datagrams: the fields stand before the application's own message, the constant ones are the
    signature. Streams: `docs/wire-format.md` has the frames; with content "head" the fields
    describe the head of the module's frames, behind which the application's bytes stand as they
    are; with "whole" the module transforms the content of its frames.
    """

    summary: str
    direction: Literal["client-to-server", "server-to-client", "both"]
    payload: Annotated[str, Field(pattern=r"^[a-z0-9_.]+$")] | None = None
    """Wireshark's name of the dissector that goes on with the rest; None: there is no rest."""
    signature: Annotated[str, Field(pattern=r"^[!-~]{4}$")] | None = None
    """What names the module in the marks and switches of a stream; datagrams have none."""
    content: Literal["head", "whole"] | None = None
    """What of a stream's frame is the module's; datagrams have none."""
    fields: Annotated[list[WireField], Field(alias="field")] = []

    @property
    def constants(self) -> list[WireField]:
        """The fields that have the same value in every message."""
        return [field for field in self.fields if field.value is not None]

    @model_validator(mode="after")
    def _order(self) -> WireFormat:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("two fields have the same name")
        integers: set[str] = set()
        for position, field in enumerate(self.fields):
            if field.length_from and field.length_from not in integers:
                raise ValueError(f"field {field.name}: length_from names no earlier integer field")
            open_ended = field.type in ("string", "bytes") and not (
                field.length or field.length_from
            )
            if open_ended and (position != len(self.fields) - 1 or self.payload):
                raise ValueError(f"field {field.name}: only the last field can be without length")
            if field.type in INTEGER_BYTES:
                integers.add(field.name)
        return self


class DefaultMatch(_Part):
    """What an intent gets where it says nothing."""

    server_port: Port | None = None
    client_process: Comm | None = None
    server_process: Comm | None = None


class Manifest(_Part):
    """A module as its `manifest.toml` describes it."""

    name: ModuleName
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    summary: str
    transport: Transport
    targets: Annotated[list[Target], Field(min_length=1)]
    growth: Annotated[int, Field(ge=0, le=1400)]
    """Most bytes that `send` adds to a message; to one frame of a stream, 255 at most."""
    lossy: bool = False
    """Whether `recv` cannot restore every byte that `send` was given."""
    parameters: Annotated[list[Parameter], Field(alias="parameter")] = []
    client: Role
    server: Role
    swappable: bool = False
    """Whether an intent may have clients do what servers do here, and the reverse."""
    match: DefaultMatch = DefaultMatch()
    wire: WireFormat | None = None
    """None, for streams only: the module leaves no trace on the wire."""

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError("two parameters have the same name")
        if sum(p.size for p in self.parameters) > MAX_PARAMETERS:
            raise ValueError(f"parameters take more than {MAX_PARAMETERS} bytes")
        if self.transport == "udp":
            _check_datagram(self.wire)
        else:
            _check_stream(self.wire, self.growth)
        return self


def _check_datagram(wire: WireFormat | None) -> None:
    if wire is None:
        raise ValueError("wire: transport udp needs a [wire] that the receiver can tell by")
    if wire.signature or wire.content:
        raise ValueError(
            "wire: signature and content are for transport tcp; a datagram is told by its fields, "
            "give one of them a constant `value`"
        )
    if not wire.constants:
        raise ValueError("wire: no field has a constant value: the wire form has no signature")


def _check_stream(wire: WireFormat | None, growth: int) -> None:
    if growth > MAX_HEAD:
        raise ValueError(f"growth: a frame of a stream has room for {MAX_HEAD} bytes of a module")
    if wire is None:
        if growth:
            raise ValueError(
                "growth: bytes that are added stand on the wire: describe them in [wire]"
            )
        return
    if not wire.signature or not wire.content:
        raise ValueError(
            "wire: transport tcp needs `signature`, four ASCII characters that name the module in "
            'a stream ("STAG", say), and `content`, "head" or "whole"'
        )
    if wire.payload:
        raise ValueError(
            "wire: payload is for transport udp: leave it out, the dissector of the stream's port "
            "goes on with the application's bytes"
        )
    if (wire.content == "head") != bool(wire.fields):
        raise ValueError(
            'wire: content "head" needs fields that say what is in the head; content "whole" has '
            "no head, leave them out"
        )
    size = sum(field.fixed_size or 0 for field in wire.fields)
    if size > growth:
        raise ValueError(f"wire: the head's fields take {size} bytes, growth allows {growth}")


def load(path: Path) -> Manifest:
    """Read and check the manifest in the file `path`.

    Raises ManifestError, also where the folder is not named as the module in it.
    """
    try:
        manifest = Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from error
    except ValidationError as error:
        raise ManifestError(f"{path}: {explain(error)}") from error
    if path.parent.name != manifest.name:
        raise ManifestError(f"{path}: the folder must be named {manifest.name!r} as the module")
    return manifest


def explain(error: ValidationError) -> str:
    """Return what is wrong in one line: each place and its fault."""
    faults = error.errors(include_url=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'whole'}: {words(fault)}"
        for fault in faults
    )


def words(fault: ErrorDetails) -> str:
    """Return what is wrong at one place; the library's own words where they say what to write."""
    if fault["type"] == "extra_forbidden":
        return "there is no such setting"
    if fault["type"] == "string_pattern_mismatch":
        pattern = fault["ctx"]["pattern"]
        return f"{fault['input']!r} is not {FORMS.get(pattern, f'of the form {pattern}')}"
    return fault["msg"].removeprefix("Value error, ")


def pack_parameters(manifest: Manifest, values: dict[str, int]) -> bytes:
    """Return the parameters as the module's C code reads them.

    One after the other in the order of the manifest, unpadded, little-endian whatever the host
    (`l45_param_*` in the SDK reads them so). Raises ManifestError on an unknown name or a value
    out of bounds.
    """
    known = {parameter.name for parameter in manifest.parameters}
    if unknown := sorted(set(values) - known):
        raise ManifestError(
            f"{manifest.name} has no parameter {unknown[0]!r}; "
            f"it has: {', '.join(sorted(known)) or 'none'}"
        )
    packed = b""
    for parameter in manifest.parameters:
        value = values.get(parameter.name, parameter.default)
        if not parameter.min <= value <= parameter.upper:
            raise ManifestError(
                f"{manifest.name}: {parameter.name} = {value} is not within "
                f"{parameter.min}..{parameter.upper} {parameter.unit}".rstrip()
            )
        packed += value.to_bytes(parameter.size, "little")
    return packed
