"""Heatmaps side by side, and maps of the grid of input pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int, Shaped
from plotly.subplots import make_subplots

from mechmem.plotting.style import INK, styled


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One of several heatmaps side by side.

    Attributes:
        title: its heading, which may take several lines.
        z: the values; NaN is left blank.
        x: coordinates of the columns.
        y: coordinates of the rows, from the bottom up.
    """

    title: str
    z: Float[np.ndarray, "y x"]
    x: Shaped[np.ndarray, " x"]
    y: Shaped[np.ndarray, " y"]


def heatmaps(
    panels: Sequence[Panel], *, x_title: str, y_title: str, z_title: str, hover: str, log: bool = False
) -> go.Figure:
    """Draw heatmaps side by side on one colour scale.

    Args:
        panels: the heatmaps.
        x_title: what the columns are, with their unit.
        y_title: what the rows are.
        z_title: what the colour shows.
        hover: plotly hover template.
        log: whether the values are decimal logarithms, so that the colour bar shows powers of ten.
    """
    figure = make_subplots(1, len(panels), subplot_titles=[panel.title for panel in panels], horizontal_spacing=0.09)
    for column, panel in enumerate(panels, 1):
        # Single precision halves the file, and no eye tells the difference.
        z = panel.z.astype(np.float32)
        trace = go.Heatmap(z=z, x=panel.x, y=panel.y, coloraxis="coloraxis", hovertemplate=hover)
        figure.add_trace(trace, row=1, col=column)
    finite = np.concatenate([panel.z[np.isfinite(panel.z)] for panel in panels])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    title = {"text": z_title, "side": "right", "font": {"size": 13}}
    bar: dict[str, Any] = {"title": title, "thickness": 12, "outlinewidth": 0}
    if log:
        powers = np.arange(np.ceil(low), np.floor(high) + 1).astype(int)
        bar |= {"tickvals": powers, "ticktext": [f"10<sup>{power}</sup>" for power in powers]}
    styled(figure, 440)
    scale = {"colorscale": "Viridis", "cmin": low if log else 0.0, "cmax": max(high, low + 1e-9), "colorbar": bar}
    figure.update_layout(coloraxis=scale, plot_bgcolor="#ececec", margin={"t": 88})
    figure.update_xaxes(title_text=x_title, showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title_text=y_title, col=1)
    return figure


def grid_map(
    code: Int[np.ndarray, "a b"],
    categories: Mapping[str, str],
    marked: Bool[np.ndarray, "a b"],
    details: Shaped[np.ndarray, "a b detail"],
    *,
    mark_title: str,
    hover: str,
) -> go.Figure:
    """Draw a categorical map of the grid of input pairs, a down and b across.

    Args:
        code: position of each cell's category in `categories`; −1 for a cell that does not exist.
        categories: title and colour, in order. One that occurs nowhere is left out of the legend.
        marked: cells that get a dot.
        details: what the hover template's `customdata` holds.
        mark_title: what the dots mean.
        hover: plotly hover template.
    """
    n_a, n_b = code.shape
    cell_px = 560 / max(n_a, n_b)
    gap = 1 if cell_px > 6 else 0
    colors = list(categories.values())
    steps = [[(i + side) / len(colors), color] for i, color in enumerate(colors) for side in (0, 1)]
    z = np.where(code < 0, np.nan, code).astype(np.float32)
    scale = {"colorscale": steps, "zmin": -0.5, "zmax": len(colors) - 0.5, "showscale": False}
    figure = go.Figure()
    figure.add_heatmap(z=z, customdata=details, hovertemplate=hover, xgap=gap, ygap=gap, **scale)
    for position, (title, color) in enumerate(categories.items()):
        count = int((code == position).sum())
        if count:
            marker = {"symbol": "square", "size": 11, "color": color}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{title} ({count:,})")
    a, b = np.nonzero(marked)
    dot = {"size": max(2.0, min(6.0, 0.3 * cell_px)), "color": "white", "line": {"color": INK, "width": 0.8}}
    figure.add_scatter(x=b, y=a, mode="markers", marker=dot, name=f"{mark_title} ({len(a):,})", hoverinfo="skip")
    styled(figure, 680)
    figure.update_layout(legend={"itemclick": False, "itemdoubleclick": False})
    figure.update_xaxes(title_text="b", range=[-0.5, n_b - 0.5], constrain="domain", showgrid=False)
    figure.update_yaxes(title_text="a", range=[n_a - 0.5, -0.5], scaleanchor="x", constrain="domain", showgrid=False)
    return figure
