"""Renamed names: the old one works for one release, with a `DeprecationWarning` that gives the new one.

Imports no torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import Any, TypeVar

from mechmem.errors import warn_caller

T = TypeVar("T")

PUBLIC = {
    "ScoreTable": "NeuronTable",
    "detection": "detect_label_noise",
    "removals": "choose_removals",
    "scores": "neuron_scores",
}
"""Names of `mechmem`."""

PLUGINS = {"phase": "inversion_phase", "phases": "training_phases", "prediction_depth": "settled_depth"}
"""Names of plugins, in the kinds that have no plugin of the old name."""

NEEDS = {"recipe": "retrainer"}
"""Needs of plugins, and fields of a subject."""

RECORDS = {
    "Margin": "MarginParts",
    "PhaseResult": "InversionPhaseResult",
    "PhasesResult": "TrainingPhasesResult",
    "ScoreTable": "NeuronTable",
}
"""Classes of saved results. Files keep the old names, which are read without a warning."""


def current(name: str, renamed: dict[str, str], where: str = "") -> str:
    """Return the current form of a name; for an old one, warn the caller outside this package.

    Args:
        name: the name that was used.
        renamed: new names by the old ones.
        where: prefix that shows what the name belongs to ("mechmem.").
    """
    if name not in renamed:
        return name
    said = f"{where}{name} is now called {where}{renamed[name]}; the old name goes with the next release"
    warn_caller(said, DeprecationWarning)
    return renamed[name]


def current_label(label: str, known: Container[str]) -> str:
    """Return a label in a result, e.g. "phase(noise=0.2)", under its plugin's current name if that alone is known."""
    name = label.partition("(")[0]
    if label in known or name not in PLUGINS:
        return label
    return current(name, PLUGINS) + label.removeprefix(name)


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
