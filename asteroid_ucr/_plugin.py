"""Registers the separator with Asteroid as soon as Asteroid's models are imported.

Asteroid finds models of other packages only if these have called `register_model`. Importing torch
and Asteroid takes seconds, which `import asteroid_ucr` and `asteroid-ucr --help` need not wait for.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_MODELS = "asteroid.models"


class _Watch(MetaPathFinder):
    """Finds `asteroid.models` where Python does, and imports our separator after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODELS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                if "asteroid_ucr.base" not in sys.modules:  # else the separator is on its way
                    import_module("asteroid_ucr.separator")

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Registers the separator now if Asteroid is imported, and else when it is."""
    if _MODELS in sys.modules:
        import_module("asteroid_ucr.separator")
    else:
        sys.meta_path.insert(0, _Watch())
