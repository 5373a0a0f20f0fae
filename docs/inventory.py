"""What the reference lists: public names by room, plugins by kind, and the types that they take and return."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import mechmem
from mechmem.core.group import Group
from mechmem.core.plugins import HOMES, KINDS, plugins
from mechmem.core.results import Result
from mechmem.core.task import Task
from mechmem.errors import MechmemError

RUNS = Path(__file__).parents[1] / "examples" / "runs"
SHOWN_ON = {
    "neurons": ("add_31",),
    "logits": ("add_31", "transformer"),
    "runs": ("add_31",),
    "layers": ("digits", "random_labels_augmented"),
    "examples": ("turn_over",),
}
"""The gallery's runs on which the analyses of each folder are shown; the first that has what an analysis needs."""


@dataclasses.dataclass(frozen=True)
class Room:
    """A part of the package in the reference.

    Attributes:
        name: its name.
        headline: the question that it answers.
        names: its public names, each with the directive that documents it.
        types: classes that signatures and fields mention and nothing else documents.
    """

    name: str
    headline: str
    names: tuple[tuple[str, str], ...]
    types: tuple[type, ...]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A plugin in the reference.

    Attributes:
        plugin: its class.
        result: what it returns, if that is a class of its own.
        run: the run that its figure is of, or "".
    """

    plugin: type
    result: type | None = None
    run: str = ""


def public_names() -> dict[str, list[str]]:
    """Return the names in `mm` by room."""
    stub = ast.parse(Path(mechmem.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.setdefault(node.module.split(".")[0], []).extend(alias.name for alias in node.names)
    return found


@functools.cache
def rooms() -> dict[str, Room]:
    """Return every room with public names, or with types that these mention."""
    named = public_names()
    types: dict[str, list[type]] = {}
    for cls in _supporting_types():
        types.setdefault(cls.__module__.split(".")[1], []).append(cls)
    found = {}
    for room in sorted({*named, *types} - {"errors"}):
        headline = (importlib.import_module(f"mechmem.{room}").__doc__ or "").strip().splitlines()[0]
        names = tuple((name, _directive(name)) for name in named.get(room, ()))
        found[room] = Room(room, headline, names, tuple(types.get(room, ())))
    return found


def _directive(name: str) -> str:
    value = getattr(mechmem, name)
    return "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"


@functools.cache
def kinds() -> dict[str, list[Shown]]:
    """Return the plugins of every kind by name; analyses by folder, as "analyses/neurons" and so on."""
    found: dict[str, list[Shown]] = {}
    for kind in KINDS:
        for name, cls in sorted(plugins(kind).items()):
            if name != cls.name or not cls.__module__.startswith("mechmem."):
                continue  # an alias, or a plugin of another package
            folder = cls.__module__.split(".")[-2]
            key = f"{kind}/{folder}" if len(HOMES[kind]) > 1 else kind
            found.setdefault(key, []).append(_shown(cls, folder) if kind == "analyses" else Shown(cls))
    return found


def _shown(cls: type, folder: str) -> Shown:
    returned = getattr(sys.modules[cls.__module__], str(cls.__call__.__annotations__["return"]))
    assert issubclass(returned, Result)
    return Shown(cls, returned, _run_for(cls, folder))


_opened = functools.cache(mechmem.load)


def _run_for(cls: type, folder: str) -> str:
    for run in SHOWN_ON[folder]:
        try:
            cls().require(_opened(RUNS / run))
        except MechmemError:
            continue
        return run
    return ""


def base_types() -> set[type]:
    """Return the classes that the page on writing plugins documents."""
    module = vars(importlib.import_module("mechmem.core.plugins")).values()
    return {value for value in module if inspect.isclass(value)} | {Task, Group, Result}


def _supporting_types() -> list[type]:
    """Return the classes of the package that signatures and fields mention and no other section documents."""
    shown = {getattr(mechmem, name) for names in public_names().values() for name in names}
    every = [each for found in kinds().values() for each in found]
    shown |= {each.plugin for each in every} | {each.result for each in every if each.result}
    seen, waiting = set(shown), list(shown)
    while waiting:
        new = set(_mentioned(waiting.pop())) - seen
        seen |= new
        waiting += new
    return sorted(seen - shown - base_types(), key=lambda cls: (cls.__module__, cls.__qualname__))


def _mentioned(value: object) -> Iterator[type]:
    """Yield classes of the package that a function's or a class's annotations and bases name."""
    module = sys.modules[value.__module__]
    owners = [value]
    if inspect.isclass(value):
        members = (member for name, member in vars(value).items() if name[0] != "_" or name == "__call__")
        owners += [getattr(member, "fget", member) for member in members]
        yield from (base for base in value.__mro__[1:] if base.__module__.startswith("mechmem."))
    # Annotations are strings; evaluating them would fail on names that are imported for the type checker only.
    texts = [str(text) for owner in owners for text in getattr(owner, "__annotations__", {}).values()]
    for word in re.findall(r"\w+", " ".join(texts)):
        named = getattr(module, word, None)
        if inspect.isclass(named) and named.__module__.startswith("mechmem.") and named.__name__[0] != "_":
            yield named
