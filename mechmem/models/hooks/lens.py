"""Hook points of transformer_lens, without the rest of it, whose tokenizers and data sets load slowly, until used.

Its packages stand in `sys.modules` with their paths, so that single modules can be imported. A name that a package's
`__init__` only passes on from one of its modules comes from there; whatever else is asked of a package runs the
`__init__` first. For everyone else they are what they are.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
import threading
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer_lens import HookedRootModule as HookedRootModule
    from transformer_lens.hook_points import HookPoint as HookPoint

ON_THE_WAY = ("", ".conversion_utils", ".conversion_utils.conversion_steps", ".utilities")
"""Packages that importing the hook points passes through."""

_loading = threading.RLock()


class _Unloaded(types.ModuleType):
    """A package whose `__init__` has not run."""

    def __getattr__(self, name: str) -> Any:
        # What Python itself looks for in modules, such as `__wrapped__`, is no reason to load them.
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _loading:
            if type(self) is _Unloaded and name in (passed := _passed_on(str(self.__file__))):
                value = getattr(importlib.import_module(f"{self.__name__}.{passed[name]}"), name)
                setattr(self, name, value)
                return value
            if type(self) is _Unloaded:
                assert self.__spec__ is not None and self.__spec__.loader is not None
                self.__class__ = types.ModuleType  # pyright: ignore[reportAttributeAccessIssue]
                try:
                    self.__spec__.loader.exec_module(self)
                except BaseException:
                    self.__class__ = _Unloaded
                    raise
        return getattr(self, name)


@functools.cache
def _passed_on(path: str) -> dict[str, str]:
    """Return the names that an `__init__` imports from modules of its own package, and the module of each."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    own = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module]
    return {name.name: str(node.module) for node in own for name in node.names if name.asname in (None, name.name)}


def _put_off(name: str) -> None:
    """Put a package in its place without running its `__init__`, if it is there and has not run."""
    try:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
    except ModuleNotFoundError:  # of another version
        return
    if spec is None or spec.submodule_search_locations is None:
        return
    package = _Unloaded(name)
    package.__spec__, package.__loader__, package.__package__ = spec, spec.loader, name
    package.__file__, package.__path__ = spec.origin, spec.submodule_search_locations
    sys.modules[name] = package
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, package)


if not TYPE_CHECKING:
    for each in ON_THE_WAY:
        _put_off(f"transformer_lens{each}")
    HookPoint = importlib.import_module("transformer_lens.hook_points").HookPoint
    HookedRootModule = importlib.import_module("transformer_lens").HookedRootModule
