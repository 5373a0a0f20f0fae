"""Rows of tokens as a user gives them, and which of them are one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core import arrays
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError


def whole_rows(values: Any, name: str) -> Int[Tensor, "row token"]:
    """Return rows of whole numbers, all of one length.

    Raises:
        ConfigError: they are anything else.
    """
    if isinstance(values, list | tuple) and all(isinstance(each, Sequence | np.ndarray | Tensor) for each in values):
        lengths = {len(each) for each in values}
        if len(lengths) > 1:
            raise ConfigError(
                f"{name} must be rows of one length, got rows of {min(lengths)} … {max(lengths)} tokens; cut them, or "
                "give the texts to SequenceTask.from_text"
            )
    found = arrays.numbers(values, name)
    if found.ndim != 2 or found.is_floating_point() or found.dtype == torch.bool:
        raise ConfigError(f"{name} must be rows of whole numbers, got {arrays.described(found)}")
    return found.detach().cpu().long()


def one_each(values: Sequence[str], name: str, rows: int) -> tuple[str, ...]:
    """Return one name per row.

    Raises:
        ConfigError: there is another number of them, or something else.
    """
    found = tuple(values)
    if isinstance(values, str) or len(found) != rows or not all(isinstance(each, str) for each in found):
        raise ConfigError(f"{name} must be one name per row, {rows} in all, got {shown(values)}")
    return found


def different_rows(rows: Int[Tensor, "row token"]) -> tuple[Int[Tensor, " sequence"], Int[Tensor, " row"]]:
    """Return the first row of every different sequence, and the sequence of every row."""
    number: dict[bytes, int] = {}
    of = [number.setdefault(row.tobytes(), len(number)) for row in np.ascontiguousarray(rows.numpy())]
    found = torch.tensor(of)
    first = torch.full((len(number),), len(of)).scatter_reduce_(0, found, torch.arange(len(of)), "amin")
    return first, found
