"""Checks of a user's collate function: row i of a batch is item i, and depends on no other item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mechmem.core.in_words import shown
from mechmem.core.inputs import Inputs, NamedInputs
from mechmem.errors import ConfigError
from mechmem.tasks.dataset_splits import is_missing, plain_value
from mechmem.tasks.image_folders import LABEL_COLUMNS

SAMPLE = 8
"""Items that are collated together and each alone, when the task is made."""
ROUNDING = 1e-4
"""Largest difference between two readings of one row that is still rounding, as a share of its largest number."""
RENAMED = {"label": "labels", "label_ids": "labels"}
"""Names that the collators of HuggingFace change."""
Row = dict[str, Tensor]
"""The inputs of one example of a batch, by name."""


def same_label(one: Any, other: Any) -> bool:
    """Return whether two labels are the same; missing ones are, and are refused elsewhere."""
    return is_missing(one) and is_missing(other) if is_missing(one) or is_missing(other) else one == other


def place_of_label(key: str | int | None, batch: Any, labels: Sequence[Any]) -> str | int | None:
    """Return where the labels are in a batch, or None if it holds none.

    A collate function may make anything of items: they are where they were in the items, if their values are, and else
    where their values are.

    Args:
        key: where the label is in an item.
        batch: what collate returned.
        labels: the items' labels; none if they are not to be looked for.

    Raises:
        ConfigError: their values are at several other places.
    """
    if isinstance(batch, Mapping):
        parts = dict(batch)
        names = [key, RENAMED.get(str(key))] if isinstance(key, str) else [*LABEL_COLUMNS] if key is not None else []
        usual = next((name for name in names if name in parts), None)
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        parts = dict(enumerate(batch))
        usual = min(key, len(batch) - 1) if isinstance(key, int) else None  # one that joins inputs leaves it last
    else:
        return None
    # Those given apart are in no item that could be sorted.
    fitting = [place for place, part in parts.items() if labels and _holds(part, labels, in_order=key is None)]
    if usual in fitting or not fitting:
        return usual
    if len(fitting) > 1:
        raise ConfigError(
            f"collate puts the labels at {' and '.join(map(repr, fitting))}: let it return them once, as the network "
            "must not see them"
        )
    return fitting[0]


def _values(part: Any) -> list[Any]:
    """Return one label per row of a part of a batch, of one-hot rows the place of the largest; [] if it holds none."""
    if isinstance(part, Tensor):
        rows = part.detach()
        if rows.ndim == 2 and rows.shape[1] > 1 and bool((rows >= 0).all()):
            sums = rows.sum(1, dtype=torch.float64)
            rows = rows.argmax(1) if bool(((sums - 1).abs() < ROUNDING).all()) else rows
        rows = rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows
        return rows.tolist() if rows.ndim == 1 else []
    found = plain_value(part)
    found = [plain_value(each) for each in found] if isinstance(found, list | tuple) else []
    return [] if any(isinstance(each, list) for each in found) else found


def _holds(part: Any, labels: Sequence[Any], *, in_order: bool) -> bool:
    """Return whether a part of a batch has the labels, or a number for each name."""
    found = _values(part)
    if len(found) != len(labels) or any(is_missing(each) for each in (*found, *labels)):
        return False
    named = [isinstance(each, str) for each in (*found, *labels)]
    if all(named) or not any(named):
        return found == [*labels] if in_order else Counter(found) == Counter(labels)
    return len({*found}) == len({*labels}) == len({*zip(found, labels, strict=True)}) > 1


def check_labels(
    batch: Any,
    place: str | int | None,
    labels: Sequence[Any],
    classes: Sequence[str],
    where: Callable[[int], str],
) -> None:
    """Refuse a batch whose labels are not those of its items, in their order.

    One-hot rows count as classes, and numbers for names as those of the task.

    Args:
        batch: what collate returned.
        place: where the labels are in it.
        labels: the items' labels.
        classes: names of the classes in their order, if labels are names.
        where: returns an item in words, by its place.

    Raises:
        ConfigError: one is another, or numbered otherwise than the classes.
    """
    if place is None or not (found := _values(batch[place])):
        return
    under = f"under {place!r}" if isinstance(place, str) else f"at place {place}"
    if len(found) != len(labels):
        raise ConfigError(f"collate made {len(found)} labels of {len(labels)} items, {under}: give each its own")
    for row, (own, one) in enumerate(zip(labels, found, strict=True)):
        if same_label(own, one) or isinstance(own, list):
            continue
        if own in classes and not isinstance(one, str):
            if one == classes.index(own):
                continue
            raise ConfigError(
                f"collate puts {shown(one)} {under} for {where(row)}, whose label is {shown(own)}, number "
                f"{classes.index(own)} of the task: number classes in its order, or declare yours (a pandas column of "
                "type category, or ClassLabel of HuggingFace)"
            )
        raise ConfigError(
            f"collate puts {shown(one)} {under} for {where(row)}, whose label is {shown(own)}: it must keep the items' "
            "order and labels, and its row i must be item i (sorting, shuffling and mixing belong in your training "
            "loop)"
        )


def check_separate(make: Callable[[Sequence[int]], Inputs], rows: Sequence[int], where: Callable[[int], str]) -> None:
    """Refuse a collate function that sorts items, is random, or has items act on each other.

    Padding to the longest item is none of these: an item is compared with itself alone if it has one shape there.

    Args:
        make: reads rows and collates them.
        rows: some rows.
        where: returns a row in words.

    Raises:
        ConfigError: it does one of these.
    """
    together, backward = _rows_in(make(rows)), _rows_in(make(rows[::-1]))[::-1]
    for row, one, other in zip(rows, together, backward, strict=True):
        if _shapes(one) != _shapes(other) or _differ(one, other):
            pairs = zip(together, _rows_in(make(rows)), strict=True)
            if any(_shapes(one) != _shapes(again) or _differ(one, again) for one, again in pairs):
                raise ConfigError(
                    f"collate makes another input of {where(row)} at every call: it must not be random (augmentation "
                    "belongs in your training loop)"
                )
            raise ConfigError(
                f"collate makes another input of {where(row)} if the items come in another order: its row i must be "
                "item i, so it must not sort them (pack_padded_sequence takes enforce_sorted=False)"
            )
    for row, one in zip(rows, together, strict=True):
        alone = _rows_in(make([row]))[0]
        if _shapes(one) == _shapes(alone) and _differ(one, alone):
            raise ConfigError(
                f"collate makes another input of {where(row)} beside other items than alone: an example's input must "
                "not depend on its batch, so normalise by numbers of the whole training set (padding to the longest "
                "item is allowed)"
            )


def _rows_in(inputs: Inputs) -> list[Row]:
    tensors = inputs.tensors if isinstance(inputs, NamedInputs) else {"": inputs}
    dense = {name: each if each.layout == torch.strided else each.to_dense() for name, each in tensors.items()}
    return [{name: each[place] for name, each in dense.items()} for place in range(len(inputs))]


def _shapes(row: Row) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in row.items()}


def _differ(one: Row, other: Row) -> bool:
    """Return whether two rows of one shape differ by more than rounding."""
    return any(not _close(each, other[name]) for name, each in one.items())


def _close(one: Tensor, other: Tensor) -> bool:
    if torch.equal(one, other):
        return True
    if not one.is_floating_point() or not other.is_floating_point():
        return False
    one, other = one.double(), other.double()
    largest = float(one[one.isfinite()].abs().max()) if one.isfinite().any() else 0.0
    return torch.allclose(one, other, rtol=0, atol=ROUNDING * largest, equal_nan=True)
