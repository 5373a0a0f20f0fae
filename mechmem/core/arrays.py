"""Conversion of a user's arrays: tensors, numpy arrays, lists and columns of pandas and other tables."""

from __future__ import annotations

import collections.abc
import itertools
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from mechmem.core.arguments import GREATEST_WHOLE
from mechmem.core.in_words import reason, shown
from mechmem.errors import ConfigError

Array = Any
"""Rows, one per example, as `numbers` and `labels` accept them: a tensor, an array, a list, or a column or table."""

DTYPES: dict[type, type[np.generic]] = {str: np.str_, bool: np.bool_, Integral: np.int64, Real: np.float64}
"""Types of numpy for objects of Python; whole numbers among numbers are numbers."""


def numbers(values: Any, name: str) -> Shaped[Tensor, "example ..."]:
    """Return numbers, one row per example, as a tensor; tensors and arrays share their memory where they can.

    Raises:
        ConfigError: it is no array of real numbers, or has no rows.
    """
    found = tensor_of(values, name)
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
    found = tensor_of(values, name)
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ConfigError(f"{name} must be one whole number or boolean per example, got {described(found)}")
    return found


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


def described(values: Tensor) -> str:
    """Return the type and shape of a tensor, for errors."""
    return f"{values.dtype} of shape {tuple(values.shape)}"


def tensor_of(values: Any, name: str) -> Tensor:
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
            return tensor_of(values.numpy(force=True), name)
        return values.float() if values.is_floating_point() and values.dtype.itemsize == 1 else values
    array = array_of(values, name)
    if array.dtype.kind in "OUST":
        array = of_objects(array, name, names=False)
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


def array_of(values: Any, name: str) -> np.ndarray:
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


def of_objects(array: np.ndarray, name: str, *, names: bool) -> np.ndarray:
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
