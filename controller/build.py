"""Compiles modules, and names what a compilation depends on.

The build key is a hash over everything that goes in: the module's sources, the SDK's, the
compiler's version, the flags, for a kernel module the kernel's headers. The same key is never
built twice, and no path of this machine gets into the output: the same sources give the same
digest wherever they lie.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from controller.plan import Platform
from wire.frames import MAX_FRAME
from wire.manifest import Manifest, ManifestError, load

BPF_FLAGS = (
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

COMPILERS = {"bpf": "clang", "kmod": "gcc"}
SDK_FOLDERS = {"bpf": ("include", "bpf", "core"), "kmod": ("include", "kmod", "core")}

# Its types go too: pahole's threads write them in any order, and nobody reads them.
STRIP = ("strip", "--strip-debug", "--remove-section=.BTF*")
"""What is left of a kernel module: what the kernel loads, and its build id."""

TAG_LENGTH = 12
"""Digits of the build key that stand in a kernel module's name."""

MAX_OBJECT = MAX_FRAME - 64 * 1024
"""Bytes of object code that one message can carry to a host."""

HEADERS = Path("/lib/modules")
HEADER_FILES = (".config", "Module.symvers")
"""What of a kernel's headers tells one build of a release from another."""

WORDS_KEPT = 2000
"""Characters of a compiler's message that go into an error: its last ones."""


_File = tuple[str, int, int, int, int] | None
"""What tells a program's file from another one that may be put in its place."""


class BuildError(RuntimeError):
    """A module cannot be built; the text has the compiler's words."""


@dataclass(frozen=True)
class Builder:
    """Builds what lies in a modules folder, against the SDK in another."""

    modules: Path
    sdk: Path
    time_limit: float
    """Seconds for one command."""
    headers: Path = HEADERS
    """Has a folder for each kernel release, in which `build` leads to its headers."""
    _versions: dict[str, tuple[_File, str]] = field(default_factory=dict, repr=False, compare=False)
    """What each compiler said that it is, and of which file: to ask again for each build key would
    take as long as a deployment to a hundred hosts."""

    def manifest(self, module: str) -> Manifest:
        """Return the manifest as it is now; raises BuildError."""
        try:
            return load(self.modules / module / "manifest.toml")
        except ManifestError as error:
            raise BuildError(str(error)) from error

    async def key(self, module: str, platform: Platform) -> str:
        """Return the hash of everything that the output depends on; raises BuildError."""
        if reason := self.lacking(platform):
            raise BuildError(reason)
        version = await self._version(COMPILERS[platform.target])
        digest = hashlib.sha256()
        for part in ("l45-build-2", str(platform), version, *BPF_FLAGS):
            digest.update(part.encode() + b"\0")
        sources = [(self.modules, self.modules / module)]
        sources += [(self.sdk, self.sdk / folder) for folder in SDK_FOLDERS[platform.target]]
        for root, folder in sources:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                digest.update(f"{path.relative_to(root)} {_content(path)}".encode() + b"\0")
        if platform.target == "kmod":
            for path in (self._headers(platform) / name for name in HEADER_FILES):
                digest.update(f"{path.name} {_content(path)}".encode() + b"\0")
        return digest.hexdigest()

    async def compile(self, module: str, platform: Platform, key: str) -> bytes:
        """Return the object code of a module, named after its build key; raises BuildError."""
        with tempfile.TemporaryDirectory(prefix="l45-build-") as name:
            folder = Path(name)
            if platform.target == "kmod":
                output = await self._compile_kmod(module, platform, key, folder)
            else:
                output = await self._compile_bpf(module, folder)
            return _sendable(output.read_bytes())

    async def _compile_bpf(self, module: str, folder: Path) -> Path:
        output = folder / "module.o"
        maps = [f"-ffile-prefix-map={self.modules}=modules", f"-ffile-prefix-map={self.sdk}=."]
        source = self.modules / module / "module.c"
        await self._run(["clang", *BPF_FLAGS, *maps, "-c", str(source), "-o", str(output)])
        await self._run(["llvm-strip", "-g", str(output)])
        return output

    async def _compile_kmod(self, module: str, platform: Platform, key: str, folder: Path) -> Path:
        """Have Kbuild compile a module, and l45.ko, whose symbols it needs, beside it."""
        tag = key[:TAG_LENGTH]
        settings = {
            "KERNEL": platform.kernel,
            "KDIR": self._headers(platform),
            "OUT": folder,
            "MODULES": self.modules,
            "NAMES": module,
            "TAG": tag,
            "KCFLAGS": f"-ffile-prefix-map={folder}=.",
        }
        values = [f"{name}={value}" for name, value in settings.items()]
        await self._run(["make", "--silent", "-C", str(self.sdk / "kmod"), *values])
        output = folder / "kmod" / f"l45_{module}_{tag}.ko"
        await self._run([*STRIP, str(output)])
        return output

    def lacking(self, platform: Platform) -> str | None:
        """Return why nothing can be compiled for a platform here, as far as it can be seen.

        The kernel release is what a host said: it must not lead anywhere else.
        """
        if platform.target != "kmod":
            return None
        release = platform.kernel or ""
        if not re.fullmatch(r"[0-9][A-Za-z0-9.+~_-]{0,63}", release):
            return f"{release!r} is not the release of a kernel"
        folder = self._headers(platform)
        if all((folder / name).is_file() for name in HEADER_FILES):
            return None
        return (
            f"no headers of kernel {release} at the NCO ({folder}), so nothing can be compiled for "
            f"it: `apt-get install linux-headers-{release}` there, then apply the intent again"
        )

    async def _version(self, compiler: str) -> str:
        """Return what a compiler says that it is; another file is asked anew."""
        file = _program(compiler)
        known = self._versions.get(compiler)
        if known is None or known[0] != file:
            known = self._versions[compiler] = file, await self._run([compiler, "--version"])
        return known[1]

    def _headers(self, platform: Platform) -> Path:
        return self.headers / (platform.kernel or "") / "build"

    async def _run(self, command: list[str]) -> str:
        return await _run(command, self.sdk, self.time_limit)


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _program(name: str) -> _File:
    path = shutil.which(name)
    if path is None:
        return None
    file = Path(path).stat()
    return path, file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns


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
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error}; `make setup` installs it") from error
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), time_limit)
    except TimeoutError as error:
        raise BuildError(f"{command[0]} did not end within {time_limit:g} s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # make's compilers too
            await process.wait()
    words = printed.decode(errors="replace")
    if process.returncode != 0:
        raise BuildError(f"{command[0]} failed:\n{words.strip()[-WORDS_KEPT:]}")
    return words
