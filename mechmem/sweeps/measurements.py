"""Measurements by name, or by a function of the user's, as tables of a sweep."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from mechmem.analyses.measuring import Kind, What, measurement
from mechmem.core.config import check_different
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.sweeps.functions import code_of, values_of

Function = Callable[[Subject], float | Mapping[str, float] | pd.DataFrame]

_SAFE = re.compile(r"[A-Za-z0-9][\w.+=-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Named:
    """A measurement of a run.

    Attributes:
        name: its name in the table.
        what: a name that `mm.over_training` takes, a plugin, or a function.
        kind: its kind.
    """

    name: str
    what: Any
    kind: Kind | Literal["function"]

    @property
    def folder(self) -> str:
        """Name of its folder: its own, with a hash where a file cannot be called so."""
        if _SAFE.fullmatch(self.name):
            return self.name
        start = re.sub(r"[^\w.+=-]+", "_", self.name)[:60].strip("._") or "measurement"
        return f"{start}-{hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()}"

    @property
    def code(self) -> str:
        """Hash of a function's code, see `code_of`; else ""."""
        return code_of(self.what) if self.kind == "function" else ""

    @property
    def values(self) -> str:
        """Hash of what a function reads besides the network, see `values_of`; else ""."""
        return values_of(self.what) if self.kind == "function" else ""

    def __call__(self, subject: Subject) -> pd.DataFrame:
        """Measure a run. What cannot be measured is one row with the reason."""
        try:
            if isinstance(self.what, What):
                return measurement(self.what)[2](subject)[0]
            # A copy: what a function does to the network must not change what is measured after it.
            return _frame(self.what(subject.with_model(subject.copy_model())), self.name)
        except (MissingNeedError, ScoreError) as error:
            return pd.DataFrame({"reason": [str(error)]})


def named(measure: What | Function | Sequence[What | Function]) -> list[Named]:
    """Return measurements by their names, checked.

    Raises:
        UnknownNameError: nothing has this name; the message suggests the nearest.
        ConfigError: something else is given, a measurement twice, or a function without a name.
    """
    asked: list[Any] = list(measure) if isinstance(measure, list | tuple) else [measure]
    found = [_named(each) for each in asked]
    check_different("measure", [each.name for each in found])
    return found


def _named(what: Any) -> Named:
    if isinstance(what, What):
        name, kind, _ = measurement(what)
        return Named(name, what, kind)
    if callable(what) and not isinstance(what, type):
        name = getattr(what, "__name__", "")
        if not name or name == "<lambda>":
            raise ConfigError("measure: a function must have a name, which stands in the table: use def")
        return Named(name, what, "function")
    raise ConfigError(f"measure: expected a name, a plugin or a function of a network, got a {type(what).__name__}")


def _frame(value: Any, name: str) -> pd.DataFrame:
    """Return what a function gave as a table.

    Raises:
        ConfigError: it is no number, numbers by name, or table.
    """
    if isinstance(value, pd.DataFrame):
        twice = next((column for column in value.columns if list(value.columns).count(column) > 1), None)
        if twice is not None:
            raise ConfigError(f"{name} must return a table of different columns; got {twice!r} twice")
        return value
    parts = list(value.items()) if isinstance(value, Mapping) else [("", value)]
    found = [(str(key), _number(each)) for key, each in parts]
    for (key, number), (_, each) in zip(found, parts, strict=True):
        if number is None:
            what = f"a {type(each).__name__}{f' for {key!r}' if isinstance(value, Mapping) else ''}"
            raise ConfigError(f"{name} must return a number, numbers by name, or a table; got {what}")
    if isinstance(value, Mapping):
        return pd.DataFrame([{"quantity": key, "value": number} for key, number in found])
    return pd.DataFrame({"value": [number for _, number in found]})


def _number(value: Any) -> float | None:
    """Return a number of any kind, also in an array or a tensor, or None."""
    if hasattr(value, "item"):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # an array or a tensor of several
            value = value.item()
    return float(value) if isinstance(value, numbers.Real) else None


HEADLINES = {"extractor": "test", "structure": "kappa", "rule": "agreement"}
"""The number that stands for a measurement in the table, by kind; of others it is the first."""
ENDS = ("low", "high")
"""Columns of the interval of the number before them."""
SAID = ("verdict", "phase")
"""Columns that may say something of the whole network in words."""
ASIDE = frozenset({"n", "reason", "note", "own_step", "step"})
"""Columns that hold no measured number of their own."""


def numbers_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the numbers in a table, each with its name, and its interval if it has one, in order.

    The name of a number is that of its row (the entries of the columns with words, joined by ".") and of its column; a
    column called "value" adds nothing, nor does what is said of the whole network. A row without words has its number,
    if there are several.
    """
    aside = ASIDE.union(said_in(frame))
    words = [c for c in frame.columns if c not in aside and not _is_numeric(frame[c])]
    measured = [c for c in frame.columns if c not in ASIDE and c not in ENDS and _is_numeric(frame[c])]
    columns = list(frame.columns)
    found = []
    for number, row in enumerate(frame.to_dict("records")):
        parts = [str(row[c]) for c in words if row[c] is not None] or ([str(number)] if len(frame) > 1 else [])
        for c in measured:
            certain = columns[columns.index(c) + 1 :][:2] == list(ENDS)
            ends = {end: row[end] for end in ENDS} if certain else {}
            found.append(
                {"quantity": ".".join([*parts, *([] if c == "value" else [c])]) or "value"} | {"value": row[c]} | ends
            )
    return found


def said_in(frame: pd.DataFrame) -> dict[str, str]:
    """Return what a table says of the whole network, in every row, by column."""
    found = {name: set(frame[name].dropna()) for name in SAID if name in frame}
    return {name: str(next(iter(words))) for name, words in found.items() if len(words) == 1}


def _is_numeric(column: Any) -> bool:
    return all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in column if v is not None)
