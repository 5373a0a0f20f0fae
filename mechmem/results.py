"""What plugins return: frozen, documented, drawable, storable."""

from __future__ import annotations

import abc
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mechmem import storage
from mechmem.errors import RunDirectoryError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclasses.dataclass(frozen=True, eq=False)
class Result(abc.ABC):
    """Base of what analyses return: frozen, documented field by field, drawable, storable."""

    @abc.abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return the result as a tidy table."""

    @abc.abstractmethod
    def plot(self) -> go.Figure:
        """Return the result as a plotly figure."""

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(max_rows=60)

    def save(self, path: str | Path) -> None:
        """Save without loss to one safetensors file."""
        storage.save_record(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load what `save` wrote.

        Raises:
            RunDirectoryError: the file is damaged or holds something else.
        """
        loaded = storage.load_record(Path(path))
        if not isinstance(loaded, cls):
            raise RunDirectoryError(f"{path} holds a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded
