"""The recipes by name, and measurements of their runs for each claim."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mechmem.core.foreign_plugins import loaded
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, RunDirectoryError, unknown_name
from mechmem.recipes.claims import COLUMNS, Claim, Recipe, Trial
from mechmem.sweeps.jobs import Place, read_rows, warn_unless


def recipes() -> dict[str, Recipe]:
    """Return every recipe by name, from `recipes/papers/` and the entry points "mechmem.recipes" of other packages.

    Raises:
        ConfigError: two recipes share a name, or another package's cannot be loaded or is none.
    """
    package = importlib.import_module("mechmem.recipes.papers")
    names = [f"mechmem.recipes.papers.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    found = [importlib.import_module(name).RECIPE for name in names]
    found += [loaded(entry) for entry in importlib.metadata.entry_points(group="mechmem.recipes")]
    strangers = [type(one).__name__ for one in found if not isinstance(one, Recipe)]
    if strangers:
        raise ConfigError(f"a recipe of another package must be a mechmem.recipes.claims.Recipe, got a {strangers[0]}")
    by_name: dict[str, Recipe] = {}
    for one in found:
        if one.name in by_name:
            raise ConfigError(f"two recipes are called {one.name!r}")
        by_name[one.name] = one
    return by_name


def recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        UnknownNameError: there is no such recipe; the message names the nearest.
    """
    found = recipes()
    if name not in found:
        raise unknown_name("recipe", name, found)
    return found[name]


@dataclasses.dataclass(frozen=True)
class OfClaim:
    """The measurement of a run for a claim.

    Attributes:
        recipe: the recipe's name; the function itself need not be sent to another process.
        claim: the claim's key.
    """

    recipe: str
    claim: str

    @property
    def folder(self) -> str:
        """Name of the folder of its tables."""
        return self.claim

    def __call__(self, subject: Subject) -> pd.DataFrame:
        """Measure a run; columns quantity, x, value."""
        measure = recipe(self.recipe).claim(self.claim).measure
        assert measure is not None
        return measure(subject).reindex(columns=["quantity", "x", "value"])


def measurements(claim: Claim, trials: Sequence[Trial], folder: Path) -> pd.DataFrame:
    """Load a claim's measurements of some of its runs.

    Raises:
        RunDirectoryError: a file is missing or damaged.

    Warns:
        UncheckedWarning: an older version wrote a file, without a hash.
    """
    place, parts, checked = Place(folder), [], True
    for trial in trials:
        path = place.measured(OfClaim("", claim.key), trial.config.digest)
        part, hashed = read_rows(path)
        checked = checked and hashed
        try:
            part = part.reindex(columns=["quantity", "x", "value"]).astype({"x": float, "value": float})
        except (ValueError, TypeError) as error:
            raise RunDirectoryError(f"{path} is damaged: {error}") from error
        parts.append(part.assign(arm=trial.arm, seed=trial.config.seed))
    warn_unless(checked, folder / "measurements" / claim.key)
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))
