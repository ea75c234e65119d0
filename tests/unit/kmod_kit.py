"""A kernel with the kernel tap, as far as its netlink family goes; messages are really encoded."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from host_agent import kernel_modules, kmod_tap
from host_agent.kmod_abi import (
    CMD_APPLY,
    CMD_CHALLENGE,
    CMD_GET_CODE,
    CMD_GET_CUSTOMIZATIONS,
    CMD_GET_FLOWS,
    CMD_GET_INFO,
    FLAG_DRAINING,
    VERSION,
    l45msg,
)
from host_agent.kmod_netlink import L45, NOT_LOADED
from wire.challenge import Challenge

BUILD_ID = bytes(range(20))
Attributes = list[tuple[str, Any]]


def coded(command: int, attributes: Sequence[tuple[str, Any]]) -> l45msg:
    """Return a message as it is when it was sent and read."""
    message = l45msg()
    message["cmd"], message["version"] = command, VERSION
    message["attrs"] = list(attributes)
    message.encode()
    read = l45msg(bytes(message.data))
    read.decode()
    return read


def said(message: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the attributes of a message by name, those in them likewise."""
    return {
        name: said(value) if hasattr(value, "get_attr") else value
        for name, value, *_ in message["attrs"]
    }


@dataclass
class Kernel:
    """What is loaded, and what was applied in the one namespace."""

    modules: dict[str, str] = field(default_factory=dict)
    """Kernel module and the module of ours that it carries; `l45` is the tap itself."""
    sets: list[list[dict[str, Any]]] = field(default_factory=list)
    """Attributes of each set's customizations."""
    flows: list[Attributes] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    """Kernel modules that another namespace uses."""
    draining: list[dict[str, Any]] = field(default_factory=list)
    refusal: NetlinkError | None = None
    drain_ms: int | None = None

    @property
    def code(self) -> list[str]:
        return [name for name in self.modules if name != "l45"]

    def users(self, name: str) -> int:
        used = [*(self.sets[-1] if self.sets else []), *self.draining]
        here = [one for one in used if one["L45_C_CODE"] == name]
        return len(here) + (name in self.busy)

    def answer(self, asked: l45msg) -> list[Attributes]:
        answers = {
            CMD_GET_INFO: self._info,
            CMD_GET_CODE: self._code,
            CMD_APPLY: self._apply,
            CMD_GET_CUSTOMIZATIONS: self._customizations,
            CMD_GET_FLOWS: self._flows,
            CMD_CHALLENGE: self._challenge,
        }
        return answers[asked["cmd"]](said(asked), asked)

    def _info(self, _: dict[str, Any], __: l45msg) -> list[Attributes]:
        return [[("L45_A_INFO_VERSION", VERSION), ("L45_A_GENERATION", len(self.sets))]]

    def _code(self, _: dict[str, Any], __: l45msg) -> list[Attributes]:
        return [
            [
                (
                    "L45_A_CODE",
                    {
                        "attrs": [
                            ("L45_CODE_NAME", name),
                            ("L45_CODE_MODULE", self.modules[name]),
                            ("L45_CODE_BUILD_ID", BUILD_ID),
                            ("L45_CODE_USERS", self.users(name)),
                        ]
                    },
                )
            ]
            for name in self.code
        ]

    def _apply(self, values: dict[str, Any], asked: l45msg) -> list[Attributes]:
        if self.refusal:
            raise self.refusal
        each = asked.get_attr("L45_A_SET").get_attrs("L45_A_CUSTOMIZATION")
        wanted = [said(one) for one in each]
        for one in wanted:
            if one["L45_C_CODE"] not in self.modules:
                raise NetlinkError(errno.ENOENT, f"{one['L45_C_CODE']}: is not loaded")
        self.sets.append(wanted)
        self.drain_ms = values.get("L45_A_DRAIN_MS")
        return [[("L45_A_GENERATION", len(self.sets))]]

    def _customizations(self, _: dict[str, Any], __: l45msg) -> list[Attributes]:
        here = self.sets[-1] if self.sets else []
        gone = [one | {"L45_C_FLAGS": one["L45_C_FLAGS"] | FLAG_DRAINING} for one in self.draining]
        return [[("L45_A_CUSTOMIZATION", self._told(one))] for one in [*here, *gone]]

    def _told(self, one: dict[str, Any]) -> dict[str, Any]:
        kept = "L45_C_ID", "L45_C_CODE", "L45_C_PRIORITY", "L45_C_FLAGS"
        counts = [("L45_N_SENT", 3), ("L45_N_SENT_BYTES", 2**33)]
        return {
            "attrs": [
                *((name, one[name]) for name in kept),
                ("L45_C_MODULE", self.modules[one["L45_C_CODE"]]),
                ("L45_C_FLOWS", 2),
                ("L45_C_COUNTERS", {"attrs": counts}),
            ]
        }

    def _flows(self, _: dict[str, Any], __: l45msg) -> list[Attributes]:
        return [[("L45_A_FLOW", {"attrs": one})] for one in self.flows]

    def _challenge(self, values: dict[str, Any], _: l45msg) -> list[Attributes]:
        one = next((c for c in self.sets[-1] if c["L45_C_ID"] == values["L45_A_ID"]), None)
        if one is None:
            raise NetlinkError(errno.ENOENT, "no customization has this id")
        asked = one["L45_C_KEY"], values["L45_A_NONCE"], one["L45_C_ID"].hex(), BUILD_ID
        answer = Challenge(*asked).answer()
        return [
            [
                ("L45_A_ID", one["L45_C_ID"]),
                ("L45_A_BUILD_ID", BUILD_ID),
                ("L45_A_ANSWER", answer),
            ]
        ]

    # What `host_agent.kernel_modules` does to a kernel.

    def load(self, image: bytes) -> None:
        name = kernel_modules.describe(image).name
        self.modules[name] = name.removeprefix("l45_").rpartition("_")[0] or name

    def unload(self, name: str) -> bool:
        if name not in self.modules:
            return True
        if self.users(name) or (name == "l45" and self.code):
            return False
        del self.modules[name]
        return True


def install(kernel: Kernel, monkeypatch: Any) -> None:  # noqa: ANN401
    """Have the driver find this kernel at its edges."""

    class Door(L45):
        def __init__(self) -> None:
            if "l45" not in kernel.modules:
                raise NetlinkError(errno.ENOENT, NOT_LOADED)

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

        def _ask(
            self, command: int, flags: int, attributes: Sequence[tuple[str, Any]]
        ) -> tuple[l45msg, ...]:
            assert flags
            answers = kernel.answer(coded(command, attributes))
            return tuple(coded(command, one) for one in answers)

    monkeypatch.setattr(kmod_tap, "L45", Door)
    monkeypatch.setattr(kernel_modules, "load", kernel.load)
    monkeypatch.setattr(kernel_modules, "unload", kernel.unload)
    monkeypatch.setattr(kernel_modules, "refusal", lambda: None)
    monkeypatch.setattr(kernel_modules, "is_installed", lambda _: False)
    monkeypatch.setattr(kmod_tap, "needs_root", lambda: None)


def module_file(folder: Path, name: str, vermagic: str, salt: int = 0) -> bytes:
    """Return an object file that says of itself what a kernel module says; gcc makes it."""
    source, target = folder / "module.c", folder / f"{name}.ko"
    lines = (f"name={name}", f"vermagic={vermagic} SMP mod_unload", "depends=l45", "license=GPL")
    texts = "\n".join(
        f'static const char t{i}[] __attribute__((section(".modinfo"), used)) = "{line}";'
        for i, line in enumerate(lines)
    )
    source.write_text(f"{texts}\nint salt = {salt};\n")
    subprocess.run(["gcc", "-c", str(source), "-o", str(target)], check=True)
    return target.read_bytes()
