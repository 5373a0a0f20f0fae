"""Ids and held-out rows of a user's data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError
from mechmem.tasks.dataset_sources import Source

TRAINING = ("train", "training")
"""What a column of splits says of training rows, in any case."""
DRAWN = 0.2
"""Fraction that is held out where nothing else is said."""


def plain_value(value: Any) -> Any:
    """Return numbers, truth values and rows of numpy and torch as those of Python; all else as it is.

    What pandas has for a missing value becomes None, because it can be compared with nothing.
    """
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.tolist() if hasattr(value, "tolist") else value


def is_missing(value: Any) -> bool:
    """Return whether a plain value stands for one that is not there: None or NaN."""
    return value is None or value != value


def column_of(source: Source, name: str, argument: str) -> list[Any]:
    """Return a column by row, as values of Python.

    Raises:
        ConfigError: a row has no value.
        UnknownNameError: there is no such column.
    """
    values = [plain_value(each) for each in source.column(name)]
    for row, value in enumerate(values):
        if is_missing(value):
            raise ConfigError(
                f"{argument}: column {name!r} has no value in {source.where(row)}, but {shown(value)}: fill it in, or "
                "leave out the row"
            )
    return values


def numbered(
    column: Sequence[Any] | None, n: int
) -> tuple[Int[Tensor, " example"], Int[Tensor, " example"], tuple[str, ...] | None]:
    """Return the rows in the order of their ids, the ids, and their names if they are names.

    Args:
        column: ids by row, whole numbers or names; None to count rows.
        n: number of rows.

    Raises:
        ConfigError: an id is missing, negative, neither a whole number nor a name, or of two rows.
    """
    if column is None:
        return torch.arange(n), torch.arange(n), None
    values = [plain_value(each) for each in column]
    named = all(isinstance(each, str) for each in values)
    if not named and not all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**63 for each in values
    ):
        wrong = next(
            each for each in values if isinstance(each, bool) or not isinstance(each, int) or not 0 <= each < 2**63
        )
        raise ConfigError(f"ids must be all whole numbers from 0 on, or all names, got {shown(wrong)}")
    array = np.asarray(values)
    order = np.argsort(array, kind="stable")
    ordered = array[order]
    twice = (ordered[1:] == ordered[:-1]).nonzero()[0]
    if len(twice):
        raise ConfigError(f"ids must be different, but {shown(values[order[twice[0]]])} is that of two rows")
    ids = torch.arange(n) if named else torch.from_numpy(ordered.astype(np.int64))
    return torch.from_numpy(order.astype(np.int64)), ids, tuple(map(str, ordered)) if named else None


def held_out_places(
    labels: np.ndarray,
    *,
    own: Bool[np.ndarray, " example"] | None,
    split: Sequence[Any] | None,
    groups: Sequence[Any] | None,
    fraction: float | None,
    seed: int,
) -> Bool[Tensor, " example"]:
    """Return which examples are held out.

    All arguments are in the order of the ids, so that the choice does not depend on the order of rows.

    Args:
        labels: the labels; every class is divided alike where it can be.
        own: which examples are of the user's own held-out data; None if there are none.
        split: what the column of splits says of each example, or None.
        groups: the group of each example, or None; a group stays together.
        fraction: fraction that is held out if neither `own` nor `split` says; None for `DRAWN`.
        seed: seed of the choice.

    Raises:
        ConfigError: more than one of `own`, `split` and `fraction` is given, one side is empty, or a group is on both
            sides.
    """
    if own is not None and split is not None:
        raise ConfigError("split divides the training data, but held-out data were given too: leave one of them out")
    if fraction is not None and (own is not None or split is not None):
        said = "test" if own is not None else "split"
        raise ConfigError(f"held_out is a part of the training data, but {said} says what is held out: leave one out")
    keys = None if groups is None else [(str(each), type(plain_value(each)).__name__) for each in groups]
    group = None if keys is None else _numbers_of(keys)
    if own is not None:
        held = own
    elif split is not None:
        held = np.asarray([not _is_training(each) for each in split])
    else:
        held = _drawn(labels, group, DRAWN if fraction is None else fraction, seed)
    if held.all() or not held.any():
        empty = "training" if held.all() else "test"
        said = (
            "" if split is None else f"; the column of splits holds {', '.join(sorted({str(each) for each in split}))}"
        )
        raise ConfigError(f"the {empty} set is empty{said}")
    if group is not None and len(both := np.intersect1d(group[held], group[~held])):
        name = (keys or [])[int((group == both[0]).nonzero()[0][0])][0]
        raise ConfigError(f"group {shown(name)} has examples both in training and held out ({len(both)} groups have)")
    return torch.from_numpy(held)


def _is_training(value: Any) -> bool:
    """Return whether a value of a column of splits is that of a training row."""
    return value.strip().lower() in TRAINING if isinstance(value, str) else value is True


def _numbers_of(keys: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the number of each key in their order; 1 and "1" are two, because keys hold the type."""
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.asarray([numbers[key] for key in keys])


def _drawn(labels: np.ndarray, group: np.ndarray | None, fraction: float, seed: int) -> np.ndarray:
    """Draw the held-out examples."""
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    check_whole("seed", seed, 0, 2**32 - 1)  # the seeds of numpy, by which scikit-learn draws
    n = len(labels)
    if not 0 < fraction < 1:  # of which scikit-learn would take 1 as a number of examples
        raise ConfigError(f"held_out={fraction} of {n} examples cannot be held out: it must lie between 0 and 1")
    if group is not None:
        splitter: Any = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
    else:
        counts = np.unique(labels, return_counts=True)[1]
        by_class = counts.min() >= 2 and len(counts) <= min(round(fraction * n), n - round(fraction * n))
        splitter = (StratifiedShuffleSplit if by_class else ShuffleSplit)(1, test_size=fraction, random_state=seed)
    held = np.zeros(n, dtype=bool)
    try:
        held[next(splitter.split(labels[:, None], labels, group))[1]] = True
    except ValueError as error:
        raise ConfigError(f"held_out={fraction} of {n} examples cannot be held out: {error}") from error
    return held
