"""Plugins of other packages: loaded by their entry points, and refused by name where they are none."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import Any

from mechmem.errors import ConfigError


def foreign_plugin(entry: importlib.metadata.EntryPoint, base: type) -> Any:
    """Load a plugin of another package.

    Args:
        entry: its entry point.
        base: the base class of its kind.

    Raises:
        ConfigError: it cannot be loaded, or is no plugin of this kind.
    """
    cls = loaded(entry)
    wrong = _fault(cls, base)
    if wrong:
        raise ConfigError(f"the plugin {entry.name!r} ({entry.value}) {wrong}")
    return cls


def loaded(entry: importlib.metadata.EntryPoint) -> Any:
    """Load what another package registers.

    Raises:
        ConfigError: it cannot be loaded.
    """
    try:
        return entry.load()
    except Exception as error:  # whatever another package's module does when it is loaded
        raise ConfigError(f"the plugin {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error


def _fault(cls: Any, base: type) -> str:
    """Return what keeps an object from being a plugin, or ""."""
    if base not in getattr(cls, "__mro__", ()):
        return f"must be a subclass of {base.__module__}.{base.__name__}"
    lacking = [name for name in dir(cls) if getattr(getattr(cls, name, None), "__isabstractmethod__", False)]
    if lacking:
        return f"lacks the method {', '.join(lacking)}"
    if not cls.name:
        return "has no name"
    for listed in ("needs", "knows", "aliases"):
        if isinstance(getattr(cls, listed), str):
            return f"must list its {listed}, got the string {getattr(cls, listed)!r}"
    # A subclass that is not decorated inherits its base's fields and sets its own as class attributes.
    if "__dataclass_params__" not in vars(cls) or not cls.__dataclass_params__.frozen:
        return "must be a frozen dataclass"
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            return f"must have a default for its setting {field.name!r}"
    return ""
