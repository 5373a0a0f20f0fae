"""Base classes of results: records with a table, a figure, and lossless saving."""

from __future__ import annotations

import abc
import dataclasses
import json
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from mechmem.core import storage
from mechmem.core.arguments import check_methods, checked
from mechmem.core.export import export
from mechmem.core.files import written
from mechmem.core.paths import check_path, check_place
from mechmem.errors import RunDirectoryError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def _repr(self: Any) -> str:
    """Return the fields by name, with shapes in place of tensors, and long values abbreviated."""
    shown = (f"{field.name}={_short(getattr(self, field.name))}" for field in dataclasses.fields(self))
    return f"{type(self).__name__}({', '.join(shown)})"


def _short(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else reprlib.repr(value)


class Saved:
    """Base class of records that can be saved to a file and loaded again. Their methods check their arguments."""

    def __init_subclass__(cls) -> None:
        """Have methods refuse arguments of another type."""
        super().__init_subclass__()
        check_methods(cls)

    @checked
    def save(self, path: str | Path) -> None:
        """Save losslessly to one safetensors file; a result that was saved there before is replaced.

        Raises:
            ConfigError: the path is empty or cannot be one.
            RunDirectoryError: it is a directory or a file of another kind, cannot be written, or the disk is full.
        """
        place = check_place(path, "path", file=True)
        if place.exists() and not storage.is_record(place):
            raise RunDirectoryError(f"path: {path} holds something else than a result of mechmem; choose another name")
        with written(path):
            storage.save_record(self, place)

    @classmethod
    @checked
    def load(cls, path: str | Path) -> Self:
        """Load a file written by `save`.

        Raises:
            RunDirectoryError: the file is damaged or holds something else.
        """
        check_path(path, "path")
        loaded = storage.load_record(Path(path))
        if not isinstance(loaded, cls):
            raise RunDirectoryError(f"{path} holds a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded


@dataclasses.dataclass(frozen=True, eq=False)
class Result(Saved, abc.ABC):
    """Base class of results: frozen records with a table and a figure."""

    @abc.abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return the result as a tidy table."""

    @abc.abstractmethod
    def plot(self) -> go.Figure:
        """Return the result as a plotly figure."""

    @checked
    def export(self, path: str | Path, *, width: int | None = None, height: int | None = None) -> None:
        """Write the figure or the table to a file, in the format that its suffix names.

        `.svg`, `.pdf` and `.png` (at twice the resolution) are pictures, drawn by the Chromium of this machine; they
        need `pip install "mechmem[pictures]"`. `.html` is a page with the interactive figure and the table, which loads
        nothing; `.json` the figure for plotly; `.csv` and `.parquet` the table. `save` and `load` keep the result
        itself. A file there is replaced, except for a page or JSON that was not exported.

        Args:
            path: the file.
            width: of a picture, in pixels; by default what is readable, at least 700.
            height: of a picture, in pixels; by default the figure's own.

        Raises:
            ConfigError: another suffix, a size outside 100 … 10,000 pixels, or one of what is no picture.
            MissingNeedError: kaleido or Chromium, which draw pictures, is missing or does not run.
            RunDirectoryError: the path is a directory or a pipe, cannot be written, or is a page or JSON that was not
                exported; or the disk is full.
        """
        with written(path):
            export(self, path, width, height)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Return figure, table and text, of which a notebook shows the richest that it can."""
        figure = {"application/vnd.plotly.v1+json": json.loads(str(self.plot().to_json()))}
        return {"text/plain": repr(self), "text/html": self._repr_html_(), **figure}

    def __init_subclass__(cls) -> None:
        """Give subclasses a short representation: `dataclass` writes its own where a class has none in its body."""
        super().__init_subclass__()
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = _repr  # pyright: ignore[reportAttributeAccessIssue]

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(max_rows=60)


@checked
def load_result(path: str | Path) -> Result:
    """Load a result of any kind that was written by its `save`.

        rule = mm.load_result("rule.safetensors")

    Raises:
        RunDirectoryError: the file is missing, damaged, written by a newer version, or holds something else.
    """
    check_path(path, "path")
    loaded = storage.load_record(Path(path))
    if not isinstance(loaded, Result):
        raise RunDirectoryError(f"{path} holds a {type(loaded).__name__}, which is no result with a figure")
    return loaded
