"""Batches of the items of a user's data set: pictures as numbers, columns as features, and what a batch holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechmem.core.in_words import reason, shown
from mechmem.core.inputs import Inputs, NamedInputs
from mechmem.errors import ConfigError, unknown_name
from mechmem.tasks.dataset_collate import RENAMED, check_labels, place_of_label
from mechmem.tasks.dataset_sources import Source
from mechmem.tasks.image_folders import LABEL_COLUMNS


def _without_images(item: Any) -> Any:
    """Return an item with pictures of PIL as tensors of fractions 0 … 1, channels first."""
    if isinstance(item, Mapping):
        return {name: _without_images(each) for name, each in item.items()}
    if isinstance(item, tuple | list):
        return type(item)(_without_images(each) for each in item) if type(item) in (tuple, list) else item
    if hasattr(item, "getbands") and hasattr(item, "tobytes"):
        values = np.asarray(item.convert("L" if item.mode in ("1", "L") else "RGB"))
        values = values[..., None] if values.ndim == 2 else values
        return torch.from_numpy(values.transpose(2, 0, 1).astype(np.float32) / 255)
    return item


def batch_of(items: list[Any]) -> Any:
    """Return a batch of items as torch's data loaders make it, with pictures as fractions 0 … 1, channels first.

    Raises:
        ConfigError: the items are no batch, e.g. because their shapes differ.
    """
    made = [_without_images(each) for each in items]
    try:
        return torch.utils.data.default_collate(made)
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        raise ConfigError(
            f"{len(items)} items cannot be put into one batch: {reason(error)}. Bring them into one shape, or pass a "
            "collate function that does (collate=…)"
        ) from error


def features_of(items: list[Mapping[str, Any]], names: Sequence[str], where: Callable[[int], str]) -> Tensor:
    """Return columns of a table as features, float32. Shape (example, feature).

    Args:
        items: rows of the table.
        names: the columns.
        where: returns a row in words, by its place, for errors.

    Raises:
        ConfigError: a column holds something else than numbers, or a number is missing or none of float32.
    """
    found = []
    for name in names:
        values = np.asarray([each[name] for each in items])
        if values.dtype.kind not in "fiub":
            odd = next((row for row, each in enumerate(items) if not isinstance(each[name], Real | np.bool_)), 0)
            raise ConfigError(
                f"column {name!r} holds {shown(items[odd][name])} in {where(odd)}, which is no number: name the "
                "columns that the network takes by inputs=[…], or pass a collate function that makes tensors of rows"
            )
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not (finite := np.isfinite(single)).all():
            odd = int((~finite).nonzero()[0][0])
            raise ConfigError(
                f"column {name!r} holds a number that is missing, infinite or too large for float32, "
                f"{shown(values[odd].item())}, in {where(odd)}: fill it in, rescale the column, or leave it out by "
                "inputs=[…]"
            )
        found.append(torch.from_numpy(single))
    return torch.stack(found, 1)


def check_leak(names: Iterable[str], key: str | int | None, apart: set[str], source: str) -> None:
    """Refuse a column of labels among inputs that nobody named, where the labels are given apart.

    Raises:
        ConfigError: there is one.
    """
    leaked = next((name for name in LABEL_COLUMNS if name in names and name not in apart), None)
    if key is None and leaked is not None:
        raise ConfigError(
            f"label is given apart, so that {leaked!r} of {source} would be an input: name the inputs by inputs=[…], "
            "or drop it"
        )


def rows_of(batch: Any) -> int:
    """Return the number of examples of a batch; −1 if it holds no ordinary tensor."""
    if isinstance(batch, Tensor | np.ndarray):
        nested = isinstance(batch, Tensor) and batch.is_nested
        return len(batch) if batch.ndim and not nested else -1
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((rows for rows in map(rows_of, values) if rows >= 0), -1)


class Batches:
    """Makes inputs of a network from items.

    Args:
        source: the data set.
        key: where the label is in an item: a name, a place, or None.
        inputs: name or names of the inputs, or None for all.
        apart: names that are no inputs.
        collate: makes a batch of items; None for torch's way.
    """

    def __init__(
        self,
        source: Source,
        key: str | int | None,
        inputs: str | Sequence[str] | None,
        apart: set[str],
        collate: Callable[[list[Any]], Any] | None,
    ):
        self._source, self._key, self._inputs, self._apart, self._collate = source, key, inputs, apart, collate
        self._wanted = None if inputs is None else [inputs] if isinstance(inputs, str) else [*inputs]
        left = [name for name in source.columns if name not in apart] if self._wanted is None else self._wanted
        self._features = left if source.tabular and collate is None else None
        # Where the labels are in a batch (perhaps nowhere), once a batch has told.
        self._place: tuple[str | int | None, ...] = ()
        self.classes: Sequence[str] = ()
        """Names of the classes in their order, once they are known."""

    def check_columns(self, items: list[Any], rows: Sequence[int]) -> None:
        """Refuse rows of a table whose features are no numbers.

        Raises:
            ConfigError: a feature is none.
        """
        if self._features is not None:
            features_of(items, self._features, lambda place: self._source.where(rows[place]))

    def of(self, items: list[Any], labels: Sequence[Any], rows: Sequence[int]) -> Inputs:
        """Return the inputs of some items.

        Args:
            items: the items.
            labels: their labels; none if they are no parts of the items.
            rows: the items' rows.

        Raises:
            ConfigError: the batch has another number of rows, no inputs, or other labels.
        """

        def where(place: int) -> str:
            return self._source.where(rows[place])

        if self._features is not None:
            return features_of(items, self._features, where)
        batch = (self._collate or batch_of)(items)
        if (found := rows_of(batch)) != len(items):
            made = "no ordinary tensors" if found < 0 else f"{found} rows"
            raise ConfigError(f"collate made {made} of {len(items)} items: it must keep every example, and each once")
        (place,) = self._place or (place_of_label(self._key, batch, labels if self._collate else []),)
        if len({*map(str, labels)}) > 1:
            # Of several labels at once; a batch of one may have its number anywhere.
            self._place = (place,)
        if self._collate is not None and labels:
            check_labels(batch, place, labels, self.classes, where)
        return self._inputs_of(batch, place)

    def _inputs_of(self, batch: Any, place: str | int | None) -> Inputs:
        names = self._inputs
        if isinstance(batch, Mapping):
            left_out = self._apart | {RENAMED.get(name, name) for name in self._apart} | {place}
            chosen = [key for key in batch if key not in left_out] if self._wanted is None else self._wanted
            if names is None:
                check_leak(chosen, self._key, self._apart, self._source.name)
            for name in chosen:
                if name not in batch:
                    raise unknown_name("input of the batch", name, list(batch))
                if not isinstance(batch[name], Tensor):
                    raise ConfigError(
                        f"the batch holds {name!r} as {shown(batch[name])}, which is no tensor: pass a collate "
                        "function that makes tensors of items, e.g. with a tokenizer, or leave it out by inputs=[…]"
                    )
            found = {name: batch[name].detach() for name in chosen}
            return found[names] if isinstance(names, str) else NamedInputs(found)
        parts = list(batch) if isinstance(batch, tuple | list) else [batch]
        if isinstance(place, int):
            del parts[place]
        if len(parts) == 1 and isinstance(parts[0], Tensor) and (names is None or isinstance(names, str)):
            return parts[0].detach()
        several = self._wanted or []
        if len(several) != len(parts) or not all(isinstance(each, Tensor) for each in parts):
            raise ConfigError(
                f"a batch has {len(parts)} inputs besides the label, {', '.join(map(shown, parts))}: name them by "
                "inputs=[…], as the network's arguments are called"
            )
        return NamedInputs({name: part.detach() for name, part in zip(several, parts, strict=True)})
