"""Golden vectors of a module, `kernel_tap/modules/NAME/vectors.toml`, for every target's tests.

Each `[[vector]]` has a `name`, a `kind` and some of:

* `application`: what an application hands to `send`, hexadecimal; `process`: its name;
  `send`: the verdict. With the verdict "done" the result is `wire`, else `application` unchanged.
* `wire`: what `recv` is given; `recv`: the verdict. With "done" the result is `restored` where
  given, else `application`; with any other verdict `wire` is unchanged.

Modules for TCP have `[[stream]]` instead, each with a `name`, a `kind` and some of:

* `writes`: what an application writes, one by one; `process`, `parameters`; `delays` in ms, where
  a write has to wait. The stream is new, of epoch 1 and with the token 00 01 .. 07.
* `wire`: all that is on the wire; with the kind "valid" made by the writes.
* `restored`: what the peer's application reads of `wire`, where that is not all that was written.
* `fault`: why the receiver breaks the connection, also at the end of `wire` ("cut").

Kinds: `valid` (both directions), `truncated`, `foreign` (not this module's), `hostile`.
White space inside hexadecimal is for the reader.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

ROOT = Path(__file__).parent.parent
MODULES = ROOT / "kernel_tap" / "modules"

Hex = Annotated[bytes, BeforeValidator(bytes.fromhex)]
Kind = Literal["valid", "truncated", "foreign", "hostile"]
Verdict = Literal["done", "next", "pass", "drop", "leave", "error"]


class Vector(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    process: str = "dig"
    application: Hex | None = None
    send: Verdict | None = None
    wire: Hex | None = None
    recv: Verdict | None = None
    restored: Hex | None = None

    @property
    def sent(self) -> bytes:
        """What `send` must make of `application`."""
        result = self.wire if self.send == "done" else self.application
        assert result is not None, f"{self.name}: nothing to compare send with"
        return result

    @property
    def received(self) -> bytes:
        """What `recv` must make of `wire`."""
        unchanged = self.recv != "done"
        result = (
            self.wire
            if unchanged
            else (self.application if self.restored is None else self.restored)
        )
        assert result is not None, f"{self.name}: nothing to compare recv with"
        return result


class Stream(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    process: str = "curl"
    parameters: dict[str, int] = {}
    writes: list[Hex] = []
    delays: list[int] = []
    wire: Hex
    restored: Hex | None = None
    fault: str | None = None

    @property
    def received(self) -> bytes:
        """What the peer's application reads."""
        return b"".join(self.writes) if self.restored is None else self.restored


def _tables(module: str, name: str) -> list[dict[str, Any]]:
    text = (MODULES / module / "vectors.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    assert set(tables) <= {"vector", "stream"}, f"{module}: unknown tables in {sorted(tables)}"
    found: list[dict[str, Any]] = tables.get(name, [])
    return found


def modules(table: Literal["vector", "stream"]) -> list[str]:
    """Return the modules that have vectors of this kind."""
    names = sorted(path.parent.name for path in MODULES.glob("*/vectors.toml"))
    return [name for name in names if _tables(name, table)]


def load(module: str) -> list[Vector]:
    """Return the vectors of a module; fails on unknown keys, so that a slip is not passed over."""
    return [Vector.model_validate(entry) for entry in _tables(module, "vector")]


def load_streams(module: str) -> list[Stream]:
    """Return the stream vectors of a module."""
    return [Stream.model_validate(entry) for entry in _tables(module, "stream")]


def to_send(module: str) -> list[Vector]:
    """Those that say what `send` does."""
    return [vector for vector in load(module) if vector.send]


def to_receive(module: str) -> list[Vector]:
    """Those that say what `recv` does."""
    return [vector for vector in load(module) if vector.recv]
