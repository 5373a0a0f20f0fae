"""Reading of examples from a user's data set: inputs, labels and hashes of a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mechmem.core.config import check_different
from mechmem.core.in_words import reason, shown
from mechmem.core.inputs import Inputs
from mechmem.core.labels import categories
from mechmem.errors import ConfigError, unknown_name
from mechmem.math.blocks import blocks
from mechmem.tasks.dataset_batches import Batches, check_leak
from mechmem.tasks.dataset_collate import SAMPLE, check_separate, same_label
from mechmem.tasks.dataset_hashes import digest_of, fingerprint, plain, within
from mechmem.tasks.dataset_sources import Source
from mechmem.tasks.dataset_splits import plain_value
from mechmem.tasks.image_folders import LABEL_COLUMNS

ROWS = 256
"""Rows that are read at once where all are."""
READ_TWICE = 16
"""Rows that are read a second time at once, to see whether they are the same; others when they are needed."""
ANEW = "is another input at every reading: a random transform changes it"
SINCE = "is another input than when the task was made: the data set was changed, or a random transform changes it"
FIXED = (
    "Figures are of fixed examples; pass the data set without random transforms (augmentation belongs in your training "
    "loop)"
)


class Reader:
    """Reads inputs and labels by row.

    Args:
        source: the data set.
        label: a column, the place in items that are tuples, labels by row, or None (see `DatasetTask`).
        inputs: name or names of the inputs, or None for all.
        apart: columns that are no inputs.
        collate: makes a batch of items; None for torch's way.

    Raises:
        ConfigError: the label is not where it is said to be, there is none, it is among the inputs, or there are no
            inputs.
        UnknownNameError: there is no such column.
    """

    def __init__(
        self,
        source: Source,
        label: Any,
        inputs: str | Sequence[str] | None,
        apart: Sequence[str],
        collate: Callable[[list[Any]], Any] | None,
    ):
        self._source, self._inputs, self._collate = source, inputs, collate
        self._wanted = None if inputs is None else [inputs] if isinstance(inputs, str) else [*inputs]
        self._first = source.items([0])[0]
        self.key, given = self._found(label)
        self._apart = {*apart, *([self.key] if isinstance(self.key, str) else [])}
        self._check_inputs(apart)
        self._batches = Batches(source, self.key, inputs, self._apart, collate)
        if given is None and self.key in source.columns:
            given = [plain_value(each) for each in source.column(self.key)]
        self._labels = given
        self.order = categories(label) if self.key is None else source.order_of(str(self.key))
        self._seen = np.zeros(0, dtype=np.uint64)

    def _check_inputs(self, apart: Sequence[str]) -> None:
        """Refuse names that are no columns or twice there, the label among the inputs, and no inputs."""
        names = self._names
        for name in apart if self._source.columns else ():
            if name not in names:
                raise unknown_name("column", name, names)
        if self._wanted is not None:
            check_different("inputs", self._wanted)
            if not self._wanted:
                raise ConfigError("inputs must name at least one input, got none; leave it out to take them all")
            if self.key in self._wanted:
                raise ConfigError(f"inputs: {self.key!r} holds the labels, so that it cannot be an input: leave it out")
            for name in self._wanted if names and self._collate is None else ():
                if name not in names:
                    raise unknown_name("column", name, names)
        elif names and not {*names} - self._apart:
            raise ConfigError(f"{self._source.name} has no inputs besides {', '.join(names)}: add columns of inputs")
        elif self._collate is None:
            check_leak(names, self.key, self._apart, self._source.name)

    @property
    def _names(self) -> tuple[str, ...]:
        """Names of the parts of an item; none of tuples and single inputs."""
        item = self._first
        return self._source.columns or (tuple(map(str, item)) if isinstance(item, Mapping) else ())

    def _found(self, label: Any) -> tuple[str | int | None, list[Any] | None]:
        """Return the key or place of the label in an item, or None and the labels by row."""
        item, names = self._first, self._names
        if label is None and names:
            label = next((name for name in LABEL_COLUMNS if name in names), None)
            if label is None:
                raise ConfigError(f"label is missing: which of {', '.join(names)} holds the classes?")
        if self._source.columns and isinstance(label, int):
            label = str(label)  # columns of a frame may be called by numbers
        if isinstance(label, str):
            if label not in names:
                raise unknown_name("column", label, names)
            return label, None
        if label is None or (isinstance(label, int) and not isinstance(label, bool)):
            place = -1 if label is None else label
            if not isinstance(item, tuple | list) or not -len(item) <= place < len(item):
                raise ConfigError(
                    f"label is missing: items of the data set are {shown(item)}, of which {shown(label)} is no part; "
                    "pass a column, a place, or one label per row"
                )
            return place % len(item), None
        return None, self.along(label, "label")

    def along(self, values: Any, name: str) -> list[Any]:
        """Return values by row: those of a column, or one per row.

        Raises:
            ConfigError: there are more or fewer.
            UnknownNameError: there is no such column.
        """
        if isinstance(values, str):
            return [plain_value(each) for each in self._source.column(values)]
        if not isinstance(values, list | tuple) and not hasattr(values, "__array__"):
            raise ConfigError(f"{name} must be a column or one value per row, got {shown(values)}")
        found = list(values) if isinstance(values, list | tuple) else np.asarray(values).tolist()
        if not isinstance(found, list) or len(found) != len(self._source):
            count = len(found) if isinstance(found, list) else 1
            raise ConfigError(f"{name} must have one value for each of {len(self._source)} rows, got {count}")
        return [plain_value(each) for each in found]

    def _label_of(self, item: Any, row: int) -> Any:
        """Return the label in an item, as a plain value."""
        try:
            return plain_value(item[self.key])
        except (LookupError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"{self._source.where(row)} has no label: {shown(self.key)} of {shown(item)} cannot be read "
                f"({type(error).__name__}: {reason(error)})"
            ) from error

    def read_all(self) -> tuple[UInt8[Tensor, "row byte"], list[Any]]:
        """Return a hash of each row's input, and the labels.

        Raises:
            ConfigError: a row cannot be read, has no label or other names than the first, or differs at a second
                reading; a feature is no number; or the data set's length has changed.
        """
        hashes, labels, seen = [], [], []
        for block in blocks(len(self._source), ROWS):
            rows = range(block.start, block.stop)
            items = self._source.items(rows)
            self._batches.check_columns(items, rows)
            for row, item in zip(rows, items, strict=True):
                labels += [] if self.key is None else [self._label_of(item, row)]
                part, where = self._part(item, row), self._source.where(row)
                hashes.append(digest_of(part, where))
                seen.append(fingerprint(part, where))
        self._source.check_length()
        self._labels = labels if self._labels is None else self._labels
        again = np.linspace(0, len(hashes) - 1, min(READ_TWICE, len(hashes))).round().astype(int).tolist()
        self._seen = np.asarray(seen, dtype=np.uint64)
        self._read(again, ANEW)
        return torch.from_numpy(
            np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(len(hashes), -1).copy()
        ), self._labels

    def _read(self, rows: Sequence[int], changed: str = SINCE) -> list[Any]:
        """Return the items of some rows, which must be what they were at first.

        Args:
            rows: the rows.
            changed: what is said of a row whose input is another.

        Raises:
            ConfigError: a row cannot be read, or its input or label is another.
        """
        items, labels = self._source.items(rows), self._labels or []
        for row, item in zip(rows, items, strict=True):
            where = self._source.where(row)
            if fingerprint(self._part(item, row), where) != self._seen[row]:
                raise ConfigError(f"{where} {changed}. {FIXED}")
            if self.key is not None and not same_label(found := self._label_of(item, row), labels[row]):
                raise ConfigError(
                    f"the label of {where} is {shown(found)}, and was {shown(labels[row])} when the task was "
                    "made: labels must not change between readings"
                )
        return items

    def _part(self, item: Any, row: int) -> Any:
        """Return an item's input, as what has one hash whenever it is read."""
        wanted, where = self._wanted, self._source.where(row)
        if isinstance(item, Mapping):
            if wanted is None and self._collate is None and {*map(str, item)} != {*self._names}:
                own, first = ", ".join(map(str, item)), ", ".join(self._names) or shown(self._first)
                raise ConfigError(
                    f"{where} holds {own}, and the first row {first}: give all the same names, or name the inputs by "
                    "inputs=[…]"
                )
            named = wanted if wanted is not None and {*wanted} <= {*item} else None
            keys = [key for key in item if key not in self._apart] if named is None else named
            return within(where, lambda: [(str(key), plain(item[key])) for key in sorted(keys)])
        if isinstance(item, tuple | list) and isinstance(self.key, int):
            return within(where, lambda: [plain(each) for place, each in enumerate(item) if place != self.key])
        return within(where, lambda: plain(item))

    @property
    def named(self) -> bool:
        """Whether labels are names."""
        return bool(self._labels) and isinstance(self._labels[0], str)

    def relabelled(self, rows: Sequence[int], labels: Sequence[Any]) -> list[Any]:
        """Return the items of some rows with other labels; a label that was no part of the item is added to it.

        Raises:
            ConfigError: a row cannot be read, or its input or label is another than at first.
        """
        found = []
        for item, label in zip(self._read(rows), labels, strict=True):
            if isinstance(item, Mapping):
                # Of labels given apart, a collator might prefer the item's own.
                own = {*LABEL_COLUMNS} - {*(self._wanted or ())}
                kept = item if self.key is not None else {name: item[name] for name in item if name not in own}
                found.append({**kept, "labels" if self.key is None else self.key: label})
            elif self.key is None:
                found.append((item, label))
            else:
                found.append(tuple(label if place == self.key else part for place, part in enumerate(item)))
        return found

    def batch(self, rows: Sequence[int]) -> Inputs:
        """Return the inputs of some rows.

        Raises:
            ConfigError: the batch has another number of rows, other labels, or no inputs; or an input or label is
                another than at first.
        """
        if not rows:
            return self.batch([0])[:0]  # with the shape and names of every batch
        labels = [self._labels[row] for row in rows] if self._labels else []
        return self._batches.of(self._read(rows), labels, rows)

    def check_collate(self, classes: Sequence[str]) -> None:
        """Refuse a collate function that sorts or changes items, is random, or has them act on each other.

        Args:
            classes: names of the classes in their order; none if labels are numbers.

        Raises:
            ConfigError: it does, or makes no batch.
        """
        if self._collate is None:
            return
        self._batches.classes = classes
        rows = np.linspace(0, len(self._source) - 1, min(SAMPLE, len(self._source))).round().astype(int).tolist()
        labels = self._labels or []
        # With two labels at least, so that they are told from other numbers.
        other = next((row for row, label in enumerate(labels) if not same_label(label, labels[rows[0]])), rows[0])
        rows = rows if other in rows else [*rows[:-1], other]
        self.batch(rows)
        try:
            self._read(rows)
        except ConfigError as error:
            raise ConfigError(
                f"collate changes the items that it is given, which the data set holds: copy them in it ({error})"
            ) from error
        check_separate(self.batch, rows, self._source.where)
