"""Heatmaps of units that form a grid: layers by heads, layers by positions, heads by positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from plotly.subplots import make_subplots

from mechmem.plotting.matrices import DIVERGING
from mechmem.plotting.style import styled

_ROW_PX = 26
_MOST_WRITTEN = 12
"""Largest number of columns, over all panels, for which cells show their values."""


@dataclasses.dataclass(frozen=True, eq=False)
class UnitGrid:
    """Arrangement of units on a grid, with one unit per cell.

    Attributes:
        rows: names of the rows, from the top.
        columns: names of the columns.
        axes: names of the two axes (rows, columns).
        row: each unit's row. Shape (unit).
        column: each unit's column. Shape (unit).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    axes: tuple[str, str]
    row: Int[np.ndarray, " unit"]
    column: Int[np.ndarray, " unit"]


def grid_of(sites: pd.DataFrame) -> UnitGrid | None:
    """Return the grid that units form, or None if they form none.

    Columns are positions if there are several, otherwise heads; rows are whatever else distinguishes the units: points,
    heads, or both.

    Args:
        sites: one row per unit: point, and position, head, channel, neuron (missing if it does not apply).
    """
    names = ("point", "head", "position", "channel", "neuron")
    *others, across = ["", *(name for name in names if len(set(sites[name])) > 1)]
    others = others[1:]
    if not others or across in ("channel", "neuron") or any(sites[name].isna().any() for name in (*others, across)):
        return None
    row, rows = pd.factorize(pd.MultiIndex.from_arrays([sites[name] for name in others], names=others))
    column, columns = pd.factorize(sites[across], sort=True)
    cells = set(zip(row.tolist(), column.tolist(), strict=True))
    if not len(cells) == len(sites) == len(rows) * len(columns):
        return None
    names = tuple(_named(dict(zip(others, each, strict=True))) for each in rows)
    axes = " and ".join("layer" if name == "point" else name for name in others)
    return UnitGrid(names, tuple(map(str, columns)), (axes, across), row, column)


def _named(row: Mapping[str, object]) -> str:
    if "point" not in row:
        return f"head {row['head']}"
    return f"{row['point']}[head {row['head']}]" if "head" in row else str(row["point"])


def unit_maps(frame: pd.DataFrame, *, titles: Mapping[str, str], z_title: str) -> go.Figure:
    """Draw one heatmap per series, side by side, on a common colour scale that diverges from zero.

    Args:
        frame: columns name, point, position, head, channel, neuron, series, value; optionally low and high, for the
            hover text. The units of each series form a grid. Values that are not finite are blank.
        titles: a heading for each series.
        z_title: title of the colour bar.
    """
    present = list(dict.fromkeys(frame["series"]))
    figure = make_subplots(
        1, len(present), subplot_titles=[titles[name] for name in present], shared_yaxes=True, horizontal_spacing=0.03
    )
    finite = np.abs(frame["value"].to_numpy(float))
    limit = float(finite[np.isfinite(finite)].max(initial=0)) or 1.0
    height = 0
    for panel, name in enumerate(present, 1):
        rows = frame.loc[frame["series"] == name].reset_index(drop=True)
        grid = grid_of(rows)
        assert grid is not None
        shape = (len(grid.rows), len(grid.columns))
        z, hover = np.full(shape, np.nan, dtype=np.float32), np.full(shape, "", dtype=object)
        z[grid.row, grid.column] = rows["value"].to_numpy(float)
        hover[grid.row, grid.column] = [_hover(row) for row in rows.to_dict("records")]
        written = len(grid.columns) * len(present) <= _MOST_WRITTEN
        figure.add_heatmap(
            z=z,
            x=list(range(shape[1])),
            y=list(range(shape[0])),
            xgap=1,
            ygap=1,
            coloraxis="coloraxis",
            customdata=hover,
            text=np.where(np.isfinite(z), np.char.mod("%.2f", np.nan_to_num(z).round(2) + 0.0), "–")
            if written
            else None,
            texttemplate="%{text}" if written else None,
            name=name,
            hovertemplate="%{customdata}<extra></extra>",
            row=1,
            col=panel,
        )
        ticks = {"tickvals": list(range(shape[1])), "ticktext": grid.columns} if shape[1] <= 24 else {}
        figure.update_xaxes(title_text=grid.axes[1], **ticks, col=panel)
        figure.update_yaxes(tickvals=list(range(shape[0])), ticktext=grid.rows, autorange="reversed", col=panel)
        height = max(height, _ROW_PX * shape[0])
    lines = max(title.count("<br>") for title in titles.values())
    styled(figure, max(height, 120) + 130 + 18 * lines)
    bar = {"title": {"text": z_title, "side": "right", "font": {"size": 13}}, "thickness": 12, "outlinewidth": 0}
    bar |= {"lenmode": "pixels", "len": min(max(height, 120) + 20, 260), "y": 1, "yanchor": "top"}
    scale = {"colorscale": DIVERGING, "cmin": -limit, "cmax": limit, "colorbar": bar}
    figure.update_layout(coloraxis=scale, plot_bgcolor="#ececec", margin={"t": 48 + 18 * lines})
    figure.update_xaxes(showgrid=False, ticks="")
    figure.update_yaxes(showgrid=False, ticks="")
    return figure


def _hover(row: Mapping[str, object]) -> str:
    shown = f"{row['name']}: {row['value']:.3f}"
    known = all(np.isfinite(row.get(end, np.nan)) for end in ("low", "high"))  # type: ignore[arg-type]
    return f"{shown} [{row['low']:.3f}, {row['high']:.3f}]" if known else shown
