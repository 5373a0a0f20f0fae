"""Saveable tables: the columns of a pandas frame as tensors and tuples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechmem.core.storage import record


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One column of a table.

    Attributes:
        dtype: the pandas dtype.
        values: numbers and truth values as a tensor, everything else as a tuple, missing entries as None.
    """

    dtype: str
    values: Tensor | tuple[Any, ...]

    @classmethod
    def of(cls, series: pd.Series) -> Column:
        """Convert a pandas column; a categorical one keeps its values, not its categories."""
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.astype(object)
        if isinstance(series.dtype, np.dtype) and series.dtype.kind in "bif":
            return cls(str(series.dtype), torch.from_numpy(series.to_numpy(copy=True)))
        return cls(str(series.dtype), tuple(_plain(value) for value in series))

    def series(self) -> pd.Series:
        """Return the column."""
        if isinstance(self.values, Tensor):
            return pd.Series(self.values.numpy().copy())
        return pd.Series(list(self.values), dtype=self.dtype)


def _plain(value: Any) -> Any:
    if value is pd.NA or value is pd.NaT:
        return None
    return value.item() if isinstance(value, np.generic) else value


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table that can be a field of a result.

    Attributes:
        columns: the columns by name, in order.
    """

    columns: dict[str, Column]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Table:
        """Convert a frame; rows are renumbered."""
        return cls({str(name): Column.of(series) for name, series in frame.items()})

    @functools.cached_property
    def _frame(self) -> pd.DataFrame:
        return pd.DataFrame({name: column.series() for name, column in self.columns.items()})

    def frame(self) -> pd.DataFrame:
        """Return the frame, a copy that may be changed."""
        return self._frame.copy()


def under_each_other(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames; entries of a column that a frame lacks are missing."""
    columns = list(dict.fromkeys(column for frame in frames for column in frame.columns))
    if all(list(frame.columns) == columns for frame in frames):
        return pd.concat(frames, ignore_index=True)
    # Row by row: otherwise a column missing from a frame would affect the dtype that pandas chooses.
    rows = [row for frame in frames for row in frame.to_dict("records")]
    return pd.DataFrame(rows, columns=pd.Index(columns))
