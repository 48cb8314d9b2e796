"""Registering the image classifier with timm as soon as both are imported, in either order.

timm takes seconds to import and has no list of plugins. So that `import fastscnn` stays quick, what is left to do
waits in `sys.meta_path` for the import of timm.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

TIMM = "timm.models"
OURS = "fastscnn.models.timm_classifier"


class _Waiting:
    """A finder that lets `timm.models` be imported as ever, and then registers ours."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != TIMM:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                importlib.import_module(OURS)

            loader.exec_module = execute_and_register
        return spec


def register() -> None:
    """Register the classifier now if timm is there already, else when it is imported."""
    if TIMM in sys.modules:
        importlib.import_module(OURS)
    else:
        sys.meta_path.insert(0, _Waiting())
