"""The modules folder: which modules there are, and their manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from controller.errors import Invalid
from wire.manifest import Manifest, ManifestError, load


@dataclass(frozen=True)
class ModuleLibrary:
    """A folder with one folder for each module, named as the module."""

    folder: Path

    def names(self) -> list[str]:
        """Return the names of all modules."""
        return sorted(path.parent.name for path in self.folder.glob("*/manifest.toml"))

    def manifest(self, name: str) -> Manifest:
        """Return a module's manifest; raises Invalid where there is none or it is unusable."""
        if name not in self.names():
            raise Invalid(
                f"there is no module {name!r}; modules in {self.folder}: "
                f"{', '.join(self.names()) or 'none'}"
            )
        try:
            return load(self.folder / name / "manifest.toml")
        except ManifestError as error:
            raise Invalid(str(error)) from error
