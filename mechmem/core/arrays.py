"""Conversion of a user's arrays: tensors, numpy arrays, lists and columns of pandas and other tables."""

from __future__ import annotations

import collections.abc
import dataclasses
import itertools
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mechmem.core.arguments import GREATEST_WHOLE
from mechmem.core.in_words import reason, shown
from mechmem.errors import ConfigError

Array = Any
"""Rows, one per example, as `numbers` and `labels` accept them: a tensor, an array, a list, or a column or table."""

MOST_CLASSES = 2**20
"""Most classes of a task, whose logits have a column each."""

DTYPES: dict[type, type[np.generic]] = {str: np.str_, bool: np.bool_, Integral: np.int64, Real: np.float64}
"""Types of numpy for objects of Python; whole numbers among numbers are numbers."""


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


def numbers(values: Any, name: str) -> Shaped[Tensor, "example ..."]:
    """Return numbers, one row per example, as a tensor; tensors and arrays share their memory where they can.

    Raises:
        ConfigError: it is no array of real numbers, or has no rows.
    """
    found = _tensor(values, name)
    if found.is_complex():
        raise ConfigError(f"{name} must be real numbers, got {found.dtype}")
    if not found.ndim or not len(found):
        raise ConfigError(f"{name} must have one row per example, got shape {tuple(found.shape)}")
    return found


def truth_values(values: Any, name: str) -> Shaped[Tensor, " example"]:
    """Return one truth value, or whole number, per example.

    Raises:
        ConfigError: it is anything else.
    """
    found = _tensor(values, name)
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ConfigError(f"{name} must be one whole number or boolean per example, got {described(found)}")
    return found


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


def check_order(**given: Any) -> None:
    """Refuse tables and columns of pandas whose indexes say that their rows are not the same, in one order.

    Rows are read by position, so they would be put together wrongly. An index 0, 1, 2 … beside one with other names
    says nothing: it may have been made anew.

    Raises:
        ConfigError: the message names two of them.
    """
    # A list has a method of this name.
    tables = [name for name, each in given.items() if hasattr(each, "iloc")]
    for name, other in itertools.combinations(tables, 2):
        index, another = given[name].index, given[other].index
        if len(index) != len(another) or index.equals(another):
            continue
        names, others = set(index), set(another)
        if names == others:
            raise ConfigError(
                f"{name} and {other} have one index in two orders, but rows are read by position: bring them into one "
                f"order, as {other}.loc[{name}.index] does, or pass them without an index, by .to_numpy()"
            )
        if names & others and not (_counts(index) or _counts(another)):
            alone = next(each for each in index if each not in others)
            raise ConfigError(
                f"{name} and {other} have other rows: {shown(alone)} is in the index of {name} alone. Choose the "
                "same rows of both, or pass them without an index, by .to_numpy()"
            )


def _counts(index: Any) -> bool:
    """Return whether an index of pandas only counts the rows."""
    return np.array_equal(np.asarray(index), np.arange(len(index)))


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


def described(values: Tensor) -> str:
    """Return the type and shape of a tensor, for errors."""
    return f"{values.dtype} of shape {tuple(values.shape)}"


def _labels(values: Any, name: str) -> Shaped[Tensor, "example *class"] | np.ndarray:
    """Return labels as whole numbers, as one-hot rows, or as an array of names."""
    array = values if isinstance(values, Tensor) else _array(values, name)
    if isinstance(array, np.ndarray) and array.dtype.kind in "OUST":
        array = _of_objects(array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array, name, names=True)
        if array.dtype.kind == "U":
            if array.ndim != 1:
                raise ConfigError(f"{name} must be one label per example, got names of shape {array.shape}")
            return array
    found = _tensor(array, name)
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


def _tensor(values: Any, name: str) -> Tensor:
    """Return values as a tensor of numbers or truth values.

    Raises:
        ConfigError: they are anything else.
    """
    if isinstance(values, list | tuple):
        try:
            values = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass  # read element by element below, where what is wrong is told by its row
    if isinstance(values, Tensor):
        if values.device.type == "meta":
            raise ConfigError(f"{name} is on the meta device, where tensors hold no numbers")
        if values.layout != torch.strided or values.is_quantized or values.is_nested:
            kind = "a nested one" if values.is_nested else f"one of layout {values.layout}"
            raise ConfigError(f"{name} must be an ordinary (dense) tensor, got {kind}")
        if values.dtype in (torch.uint16, torch.uint32, torch.uint64):  # which torch hardly computes with
            return _tensor(values.numpy(force=True), name)
        return values.float() if values.is_floating_point() and values.dtype.itemsize == 1 else values
    array = _array(values, name)
    if array.dtype.kind in "OUST":
        array = _of_objects(array, name, names=False)
    if array.dtype.kind not in "biufc":
        raise ConfigError(f"{name} must be numbers, got {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.size and int(array.max()) > GREATEST_WHOLE:
            raise ConfigError(f"{name} must be at most {GREATEST_WHOLE:,}, got {int(array.max())}")
        array = array.astype(np.int64)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    # Copied where torch would refuse the memory or warn about it.
    shared = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if shared else np.array(array))


def _array(values: Any, name: str) -> np.ndarray:
    """Return the numpy array of whatever holds rows: an array, a list, or a column or table of pandas or polars.

    A column is read by position, whatever its index.
    """
    try:
        if hasattr(values, "to_numpy") and not isinstance(values, type):
            array = np.asarray(values.to_numpy())
        elif isinstance(values, np.ndarray):
            array = values
        elif hasattr(values, "__array__") and not isinstance(values, type):
            array = np.asarray(values)
        elif isinstance(values, collections.abc.Sequence) and not isinstance(values, str | bytes):
            array = np.asarray(list(values))
            if array.dtype.kind in "US":  # numpy makes strings of numbers among them
                array = np.array(list(values), dtype=object)
        else:
            array = np.zeros(())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ConfigError(f"{name} cannot be read as an array: {reason(error)}") from error
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.getmaskarray(array).any():
            row = int(np.argwhere(np.ma.getmaskarray(array))[0][0])
            raise ConfigError(f"{name} must have no missing values, but row {row} is masked")
        array = np.asarray(array)
    if not array.ndim:
        wanted = "a tensor, an array, a list or a column of a table, with one row per example"
        raise ConfigError(f"{name} must be {wanted}, got {shown(values)}")
    return array


def _of_objects(array: np.ndarray, name: str, *, names: bool) -> np.ndarray:
    """Return an array of Python objects, or of strings, as one of numbers, truth values or (if allowed) names.

    Raises:
        ConfigError: an element is missing, or of another kind than the first.
    """
    found = [_element(each) for each in array.reshape(-1).tolist()]
    width, kinds = max(1, array[:1].size), list[type]()
    for place, each in enumerate(found):
        where = f"row {place // width}"
        if each is None or type(each).__name__ in ("NAType", "NaTType") or (isinstance(each, Real) and each != each):
            raise ConfigError(f"{name} must have no missing values, but {where} is {shown(each)}")
        kind = next((kind for kind in DTYPES if isinstance(each, kind)), None)
        if kind is None or (kind is str and not names):
            raise ConfigError(f"{name} must be numbers{' or names' * names}, but {where} holds {shown(each)}")
        kinds.append(kind)
        alike = {Integral, Real} if names else {bool, Integral, Real}
        if kind is not kinds[0] and not {kind, kinds[0]} <= alike:
            raise ConfigError(f"{name} must be of one kind, but {where} holds {shown(each)}, row 0 {shown(found[0])}")
    try:
        return np.array(found, dtype=DTYPES[max(kinds, key=list(DTYPES).index)] if kinds else None).reshape(array.shape)
    except OverflowError as error:
        raise ConfigError(f"{name} must be at most {GREATEST_WHOLE:,} in size") from error


def _element(value: Any) -> Any:
    """Return a number of numpy or torch as Python's, and bytes as text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and not value.ndim)
    return value.item() if single else value
