"""Compiles modules for the target `bpf`, and names what a compilation depends on.

The build key is a hash over everything that goes in: the module's sources, the SDK's, the
compiler's version, the flags. The same key is never built twice, and no path of this machine gets
into the output: the same sources give the same digest wherever they lie.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wire.frames import MAX_FRAME
from wire.manifest import Manifest, ManifestError, load

COMPILER = "clang"
STRIP = "llvm-strip"
FLAGS = (
    "-O2",
    "-g",
    "-target",
    "bpf",
    "-mcpu=v3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-I",
    "include",
    "-I",
    "bpf",
    "-I",
    "core",
)
"""Relative to the SDK's folder, in which the compiler runs."""

MAX_OBJECT = MAX_FRAME - 64 * 1024
"""Bytes of object code that one message can carry to a host."""

SDK_FOLDERS = ("include", "bpf", "core")
WORDS_KEPT = 2000
"""Characters of a compiler's message that go into an error."""


class BuildError(RuntimeError):
    """A module cannot be built; the text has the compiler's words."""


@dataclass(frozen=True)
class Builder:
    """Builds what lies in a modules folder, against the SDK in another."""

    modules: Path
    sdk: Path
    time_limit: float
    """Seconds for one command."""

    def manifest(self, module: str) -> Manifest:
        """Return the manifest as it is now; raises BuildError."""
        try:
            return load(self.modules / module / "manifest.toml")
        except ManifestError as error:
            raise BuildError(str(error)) from error

    async def key(self, module: str) -> str:
        """Return the hash of everything that the output depends on; raises BuildError."""
        version = await _run([COMPILER, "--version"], self.sdk, self.time_limit)
        digest = hashlib.sha256()
        for part in ("l45-build-1", version, *FLAGS):
            digest.update(part.encode() + b"\0")
        sources = [(self.modules, self.modules / module)]
        sources += [(self.sdk, self.sdk / folder) for folder in SDK_FOLDERS]
        for root, folder in sources:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(root)} {content}".encode() + b"\0")
        return digest.hexdigest()

    async def compile(self, module: str) -> bytes:
        """Return the object code of a module; raises BuildError."""
        source = self.modules / module / "module.c"
        with tempfile.TemporaryDirectory(prefix="l45-build-") as folder:
            output = Path(folder) / "module.o"
            maps = [f"-ffile-prefix-map={self.modules}=modules", f"-ffile-prefix-map={self.sdk}=."]
            command = [COMPILER, *FLAGS, *maps, "-c", str(source), "-o", str(output)]
            await _run(command, self.sdk, self.time_limit)
            await _run([STRIP, "-g", str(output)], self.sdk, self.time_limit)
            return _sendable(output.read_bytes())


def _sendable(code: bytes) -> bytes:
    if len(code) > MAX_OBJECT:
        raise BuildError(
            f"the object code has {len(code)} bytes, at most {MAX_OBJECT} can be sent to a host"
        )
    return code


async def _run(command: list[str], folder: Path, time_limit: float) -> str:
    """Run a command to its end; return what it printed. Raises BuildError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error}; `make setup` installs it") from error
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), time_limit)
    except TimeoutError as error:
        raise BuildError(f"{command[0]} did not end within {time_limit:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    words = printed.decode(errors="replace")
    if process.returncode != 0:
        raise BuildError(f"{command[0]} failed:\n{words[:WORDS_KEPT].strip()}")
    return words
