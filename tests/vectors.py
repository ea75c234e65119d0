"""Golden vectors of a module, `kernel_tap/modules/NAME/vectors.toml`, for every target's tests.

Each `[[vector]]` has a `name`, a `kind` and some of:

* `application`: what an application hands to `send`, hexadecimal; `process`: its name;
  `send`: the verdict. With the verdict "done" the result is `wire`, else `application` unchanged.
* `wire`: what `recv` is given; `recv`: the verdict. With "done" the result is `restored` where
  given, else `application`; with any other verdict `wire` is unchanged.

Kinds: `valid` (both directions), `truncated`, `foreign` (not this module's), `hostile`.
White space inside hexadecimal is for the reader.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

ROOT = Path(__file__).parent.parent
MODULES = ROOT / "kernel_tap" / "modules"

Hex = Annotated[bytes, BeforeValidator(bytes.fromhex)]
Verdict = Literal["done", "next", "pass", "drop", "leave", "error"]


class Vector(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["valid", "truncated", "foreign", "hostile"]
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


def load(module: str) -> list[Vector]:
    """Return the vectors of a module; fails on unknown keys, so that a slip is not passed over."""
    text = (MODULES / module / "vectors.toml").read_text(encoding="utf-8")
    return [Vector.model_validate(entry) for entry in tomllib.loads(text)["vector"]]


def to_send(module: str) -> list[Vector]:
    """Those that say what `send` does."""
    return [vector for vector in load(module) if vector.send]


def to_receive(module: str) -> list[Vector]:
    """Those that say what `recv` does."""
    return [vector for vector in load(module) if vector.recv]
