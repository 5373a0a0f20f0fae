"""Class labels from a user's arrays: whole numbers, names, categories and one-hot rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mechmem.core.arrays import array_of, described, of_objects, tensor_of
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError

MOST_CLASSES = 2**20
"""Most classes of a task, whose logits have a column each."""


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Class labels that were read from a user's arrays.

    Attributes:
        columns: the labels by argument, as classes from 0 on or −1. Each of shape (example).
        names: the classes' names in their order, where labels were given by name; else None.
        n_classes: number of columns where labels were one-hot, else 0.
    """

    columns: dict[str, Int[Tensor, " example"]]
    names: tuple[str, ...] | None = None
    n_classes: int = 0


def labels(
    counted: Mapping[str, Bool[Tensor, " example"]] | None = None, order: Sequence[str] | None = None, **given: Any
) -> Labels:
    """Return class labels from several arguments, which share their classes.

    Whole numbers are classes as they stand; names (strings) become classes in the order of pandas' categories if they
    are of that type, else in alphabetical order, or as numbers if they all are ("2" before "10"); rows with a single 1
    among zeros are one-hot.

    Args:
        counted: the rows of an argument that count, if not all; names in other rows are no classes.
        order: names of the classes in their order, if it is declared; by default that of categories.
        given: the labels by argument.

    Raises:
        ConfigError: a label is missing, no whole number, too large, or no declared category; some arguments have names
            and others numbers; or categories have two orders.
    """
    for values in given.values():
        order = one_order(order, categories(values))
    found = {name: _labels(values, name) for name, values in given.items()}
    named = [name for name, each in found.items() if isinstance(each, np.ndarray)]
    if not named:
        whole = {name: each.long() for name, each in found.items() if isinstance(each, Tensor)}
        widths = {name: each.shape[1] for name, each in whole.items() if each.ndim == 2}
        columns = {name: each.argmax(1) if each.ndim == 2 else each for name, each in whole.items()}
        for name, column in columns.items():
            _check_range(column, name)
        return Labels(columns, None, max(widths.values(), default=0))
    others = [name for name in found if name not in named]
    if others:
        raise ConfigError(f"{named[0]} holds names of classes, but {others[0]} numbers: give both in one form")
    for name, rows in (counted or {}).items():
        if len(rows) == len(found[name]) and rows.any():
            names = np.asarray(found[name])
            found[name] = np.where(rows.cpu().numpy(), names, names[int(rows.nonzero()[0])])
    names, classes = np.unique(np.concatenate([np.asarray(found[name]) for name in named]), return_inverse=True)
    plain = [*map(str, names)]
    ordered = sorted(plain, key=int) if order is None and all(map(_is_whole, plain)) else [*(order or plain)]
    if ordered and ordered[0].startswith("-") and all(map(_is_whole, ordered)):
        raise ConfigError(f"{' and '.join(named)} hold {ordered[0]!r} as a name: pass numbers, of which −1 is no class")
    place = {name: number for number, name in enumerate(ordered)}
    if stranger := next((name for name in plain if name not in place), None):
        raise ConfigError(f"{' and '.join(named)} hold {shown(stranger)}, which is none of the categories")
    numbers = np.array([place[name] for name in plain])[classes.reshape(-1)]
    parts = np.split(numbers, np.cumsum([len(found[name]) for name in named])[:-1])
    columns = {name: torch.from_numpy(part.astype(np.int64)) for name, part in zip(named, parts, strict=True)}
    return Labels(columns, tuple(ordered))


def categories(values: Any) -> tuple[str, ...] | None:
    """Return the names of a pandas column's categories in their order; None of other values, and of numbers."""
    declared = getattr(getattr(values, "dtype", None), "categories", None)
    names = None if declared is None else tuple(declared)
    return names if names and all(isinstance(name, str) for name in names) else None


def one_order(first: Sequence[str] | None, second: Sequence[str] | None) -> Sequence[str] | None:
    """Return the order of classes that is declared by either or both; one may lack some classes of the other.

    Raises:
        ConfigError: their orders differ.
    """
    if first is None or second is None:
        return second if first is None else first
    more, less = (first, second) if len(first) >= len(second) else (second, first)
    if [name for name in more if name in {*less}] != [*less]:
        raise ConfigError(
            f"labels have categories in two orders, {', '.join(first)} and {', '.join(second)}: give all of them the "
            "same, as .cat.set_categories does"
        )
    return more


def _is_whole(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit()


def count_classes(labels: Labels, used: dict[str, Int[Tensor, " example"]], operation: str | None) -> int:
    """Return the number of classes of labels of which no number is given.

    Args:
        labels: the labels.
        used: the labels that count, by argument.
        operation: the rule between the classes, whose number is then one more than the largest.

    Raises:
        ConfigError: a class below the largest label has no example, so that the number may be another.
    """
    largest = max(int(column.max()) for column in used.values())
    count = max(largest + 1, labels.n_classes, len(labels.names or ()))
    if operation is None and not labels.names and not labels.n_classes:
        present = torch.cat(list(used.values())).unique()
        absent = sorted({*range(count)} - {*present.tolist()})
        if absent:
            raise ConfigError(
                f"{' and '.join(used)} hold labels up to {largest}, but no example is of class {absent[0]}: pass "
                f"n_classes={count} if the network has an output for each of 0 … {largest}, or number classes from 0 on"
            )
    return count


def _labels(values: Any, name: str) -> Shaped[Tensor, "example *class"] | np.ndarray:
    """Return labels as whole numbers, as one-hot rows, or as an array of names."""
    array = values if isinstance(values, Tensor) else array_of(values, name)
    if isinstance(array, np.ndarray) and array.dtype.kind in "OUST":
        array = of_objects(array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array, name, names=True)
        if array.dtype.kind == "U":
            if array.ndim != 1:
                raise ConfigError(f"{name} must be one label per example, got names of shape {array.shape}")
            return array
    found = tensor_of(array, name)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.is_floating_point() and found.ndim == 1 and (missing := found.isnan()).any():
        row = int(missing.nonzero()[0])
        raise ConfigError(f"{name} must be one label per example, but row {row} is missing (NaN)")
    if found.ndim == 2 and not found.is_complex() and found.shape[1] > 1:
        odd = ((found != 0) & (found != 1)).any(1) | (found.sum(1) != 1)
        if not odd.any():
            return found
        raise ConfigError(
            f"{name} must be one class per example, or rows with a single 1 among zeros (one-hot); got "
            f"{described(found)}, of which row {int(odd.nonzero()[0])} is neither"
        )
    if found.ndim == 1 and found.is_floating_point() and bool((found.isfinite() & (found == found.round())).all()):
        found = found.long()  # pandas has such columns where a value was missing once
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ConfigError(f"{name} must be one whole number or boolean per example, got {described(found)}")
    return found


def _check_range(column: Int[Tensor, " example"], name: str) -> None:
    if len(column) and int(column.max()) >= MOST_CLASSES:
        row = int(column.argmax())
        raise ConfigError(
            f"{name} must be below {MOST_CLASSES:,} (a class each), got {int(column.max()):,} in row {row}"
        )
