"""Lets stock Ryu 4.34 run on a maintained eventlet.

Ryu imports `eventlet.wsgi.ALREADY_HANDLED`, which eventlet 0.31 removed; the eventlet that still
has it does not run on Python 3.10 and later. A `.pth` file imports this module when the
interpreter starts; it only hooks the import of `eventlet.wsgi`, and adds the name there.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

WANTED = "eventlet.wsgi"


class _AddName(Loader):
    """Loads the module as the original loader would, then adds the name that Ryu imports."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if not hasattr(module, "ALREADY_HANDLED"):
            module.ALREADY_HANDLED = object()


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != WANTED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AddName(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
