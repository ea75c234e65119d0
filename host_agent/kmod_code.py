"""Which artifact is which kernel module: what all kmod drivers of this kernel share.

For each module that an agent loaded, `RUN/kmod/NAME` holds the digest of its artifact; NAME is the
kernel module's. It is written before the kernel gets the code, so that no crash leaves code of
which nobody knows what it is. A driver holds a file (flock) from loading to applying, since
drivers of other namespaces unload what nobody uses; who dies holds nothing.

Callers hold the lock of `host_agent.privileges`.
"""

from __future__ import annotations

import fcntl
import logging
import re
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path

from host_agent import kernel_modules
from host_agent.kernel_modules import ModuleError
from host_agent.kmod_records import Code
from wire.artifact import Artifact

log = logging.getLogger(__name__)

UNKNOWN = "0" * 64
"""Digest of code that no agent loaded."""


class CodeFolder:
    """The folder, and what this driver holds of it."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "kmod"
        self._held: dict[str, TextIOWrapper] = {}

    def digests(self) -> dict[str, str]:
        """Return the digest of each kernel module that agents loaded, by its name."""
        if not self._folder.exists():
            return {}
        return {path.name: path.read_text() for path in self._folder.iterdir()}

    def name(self, digest: str, loaded: Iterable[Code]) -> str | None:
        """Return the kernel module that an artifact is, if it is loaded."""
        digests = self.digests()
        return next((c.name for c in loaded if digests.get(c.name) == digest), None)

    def load(self, artifact: Artifact, loaded: Iterable[Code]) -> None:
        """Load and hold an artifact's code, or hold what is loaded; raises ModuleError."""
        loaded = list(loaded)
        name = self.name(artifact.digest, loaded)
        if name is None:
            name = _checked_name(artifact)
            if any(code.name == name for code in loaded):
                self._replace(name)
            self._note(name, artifact.digest)
            try:
                kernel_modules.load(artifact.data)
            except BaseException:
                (self._folder / name).unlink()
                raise
            log.info("module_loaded module=%s digest=%s", name, artifact.digest)
        self._hold(name)

    def _replace(self, name: str) -> None:
        """Make room for other code of the same name, left by another build of the same sources."""
        if not kernel_modules.unload(name):
            raise ModuleError(
                f"{name} is loaded already from other bytes, and in use: when its customizations "
                "are gone from all network namespaces (`dca reset`), it can be loaded"
            )

    def _note(self, name: str, digest: str) -> None:
        """Write a file as a whole, or, if we die, none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if name in self._held:  # of code that somebody else unloaded
            self._held.pop(name).close()
        beside = self._folder.with_name("kmod.new")
        beside.write_text(digest)
        beside.replace(self._folder / name)

    def _hold(self, name: str) -> None:
        if name not in self._held:
            self._held[name] = (self._folder / name).open()
            fcntl.flock(self._held[name], fcntl.LOCK_SH)

    def release(self) -> None:
        """Hold nothing any more."""
        while self._held:
            self._held.popitem()[1].close()

    def sweep(self, loaded: Iterable[Code]) -> list[str]:
        """Unload what no customization uses and no driver holds; return the names."""
        users = {code.name: code.users for code in loaded}
        idle = [name for name in self.digests() if not users.get(name)]
        freed = [name for name in idle if self._is_free(name) and kernel_modules.unload(name)]
        for name in freed:
            (self._folder / name).unlink()
        return freed

    def _is_free(self, name: str) -> bool:
        with (self._folder / name).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


def _checked_name(artifact: Artifact) -> str:
    """Return the name that the code has in the kernel; it may not take that of a stranger's."""
    name = kernel_modules.fitting(artifact.data).name
    if not re.fullmatch(rf"l45_{artifact.name}(_[0-9a-f]{{12}})?", name):
        raise ModuleError(f"artifact {artifact.name} calls itself {name} in the kernel")
    return name
