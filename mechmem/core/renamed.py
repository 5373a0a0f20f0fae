"""Renamed names: the old one works for one release, with a `DeprecationWarning` that gives the new one.

Imports no torch.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_INSIDE = ("mechmem", "dataclasses", "jaxtyping")
"""Packages whose frames lie between a name and the line that used it; jaxtyping's do when shapes are checked."""

NEEDS = {"recipe": "retrainer"}
"""New names of plugins' needs by the old ones."""


def current(name: str, renamed: dict[str, str], where: str = "") -> str:
    """Return the current form of a name; for an old one, warn the caller outside this package.

    Args:
        name: the name that was used.
        renamed: new names by the old ones.
        where: prefix that shows what the name belongs to ("mechmem.").
    """
    if name not in renamed:
        return name
    frame, inside = sys._getframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, inside = frame.f_back, inside + 1
    said = f"{where}{name} is now called {where}{renamed[name]}; the old name goes with the next release"
    warnings.warn(said, DeprecationWarning, stacklevel=inside + 1)
    return renamed[name]


def renamed_fields(**renamed: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: let a dataclass be built, replaced and read with the former names of its fields."""

    def decorate(cls: type[T]) -> type[T]:
        build, where = cls.__init__, f"{cls.__name__}."

        @functools.wraps(build)
        def __init__(self: T, *values: Any, **settings: Any) -> None:
            for old in renamed.keys() & settings.keys():
                settings[current(old, renamed, where)] = settings.pop(old)
            build(self, *values, **settings)

        cls.__init__ = __init__
        for old in renamed:
            setattr(cls, old, property(lambda self, old=old: getattr(self, current(old, renamed, where))))
        return cls

    return decorate
