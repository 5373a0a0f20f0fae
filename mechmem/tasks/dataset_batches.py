"""Batches of the items of a user's data set: pictures as numbers, columns as features, and what a batch holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechmem.core.in_words import reason, shown
from mechmem.errors import ConfigError


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


def features_of(items: list[Mapping[str, Any]], names: Sequence[str]) -> Tensor:
    """Return columns of a table as features, float32. Shape (example, feature).

    Raises:
        ConfigError: a column holds something else than numbers, or a number is missing or none of float32.
    """
    found = []
    for name in names:
        values = np.asarray([each[name] for each in items])
        if values.dtype.kind not in "fiub":
            raise ConfigError(
                f"column {name!r} holds {shown(items[0][name])}, which is no number: name the columns that the network "
                "takes by inputs=[…], or pass a collate function that makes tensors of rows"
            )
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not (finite := np.isfinite(single)).all():
            wrong = values[~finite][0].item()
            raise ConfigError(
                f"column {name!r} holds a number that is missing, infinite or too large for float32, {shown(wrong)}: "
                "fill it in, rescale the column, or leave it out by inputs=[…]"
            )
        found.append(torch.from_numpy(single))
    return torch.stack(found, 1)


def rows_of(batch: Any) -> int:
    """Return the number of examples of a batch; −1 if it holds no tensor."""
    if isinstance(batch, Tensor | np.ndarray):
        return len(batch) if batch.ndim else -1
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((rows for rows in map(rows_of, values) if rows >= 0), -1)
