"""The target `user` for tests: modules as shared libraries, and the sanitised runner."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.vectors import ROOT, Verdict

Direction = Literal["send", "recv"]

VERDICTS: list[Verdict] = ["done", "next", "pass", "drop", "leave", "error"]
MESSAGE_MAX = 65507


def build(folder: Path, modules: Path) -> Path:
    """Compile the modules in `modules` into `folder`; return `folder`."""
    make = ["make", "-s", "-C", str(ROOT / "kernel_tap" / "user")]
    subprocess.run([*make, f"OUT={folder}", f"MODULES={modules}"], check=True)
    return folder


class _Context(ctypes.Structure):
    _fields_ = (
        ("process", ctypes.c_char_p),
        ("parameters", ctypes.c_char_p),
        ("parameters_size", ctypes.c_uint32),
        ("limit", ctypes.c_uint32),
    )


class Module:
    """A module that is loaded into this process."""

    def __init__(self, library: Path) -> None:
        self._module = ctypes.addressof(
            ctypes.c_char.in_dll(ctypes.CDLL(str(library)), "l45_module")
        )
        self._run = ctypes.CDLL(str(library.with_name("libl45.so"))).l45_user_run

    def run(
        self,
        direction: Direction,
        message: bytes,
        process: bytes | None = b"dig",
        *,
        parameters: bytes = b"",
        limit: int = 0,
        room: int = MESSAGE_MAX,
    ) -> tuple[Verdict, bytes]:
        """Return verdict and resulting message; OSError where there is no verdict."""
        context = _Context(process, parameters, len(parameters), limit)
        out = ctypes.create_string_buffer(room)
        size = ctypes.c_uint32(room)
        result = self._run(
            ctypes.c_void_p(self._module),
            ctypes.byref(context),
            ["send", "recv"].index(direction),
            message,
            len(message),
            out,
            ctypes.byref(size),
        )
        if result < 0:
            raise OSError(-result, "l45_user_run")
        return VERDICTS[result], out.raw[: size.value]


@dataclass(frozen=True)
class Line:
    """One line for the sanitised runner."""

    direction: Direction
    message: bytes
    process: str = "dig"

    def __str__(self) -> str:
        return f"{self.direction} {self.process} {self.message.hex() or '-'}"


def run(runner: Path, lines: Iterable[Line], parameters: bytes = b"") -> list[tuple[str, bytes]]:
    """Return the runner's answers; fails where a sanitizer stopped it."""
    result = subprocess.run(
        [str(runner), *([parameters.hex()] if parameters else [])],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    answers = (line.split(" ") for line in result.stdout.splitlines())
    return [(verdict, bytes.fromhex(text.strip("-"))) for verdict, text in answers]
