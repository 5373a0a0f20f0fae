"""Heatmaps side by side, maps of the grid of input pairs, signed matrices and influence maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int, Shaped
from plotly.subplots import make_subplots

from mechmem.plotting.style import INK, SPLIT_STYLES, power_of_ten, styled

DIVERGING = [[0.0, SPLIT_STYLES["train_clean"].color], [0.5, "#ffffff"], [1.0, SPLIT_STYLES["train_noisy"].color]]
"""Blue below zero, white at zero, vermilion above; safe for colour-blind readers."""
MOST = 400
"""Largest number of rows and columns drawn; more, which no screen would show, are averaged in equal groups."""


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One of several heatmaps side by side.

    Attributes:
        title: its heading, possibly of several lines.
        z: the values; NaN is blank.
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
        x_title: title of the x axes, with its unit.
        y_title: title of the y axis.
        z_title: title of the colour bar.
        hover: plotly hover template.
        log: whether the values are decimal logarithms, so that the colour bar shows powers of ten.
    """
    figure = make_subplots(1, len(panels), subplot_titles=[panel.title for panel in panels], horizontal_spacing=0.09)
    for column, panel in enumerate(panels, 1):
        # Single precision halves the file without a visible difference.
        z = panel.z.astype(np.float32)
        trace = go.Heatmap(z=z, x=panel.x, y=panel.y, coloraxis="coloraxis", hovertemplate=hover)
        figure.add_trace(trace, row=1, col=column)
    finite = np.concatenate([panel.z[np.isfinite(panel.z)] for panel in panels])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    title = {"text": z_title, "side": "right", "font": {"size": 13}}
    bar: dict[str, Any] = {"title": title, "thickness": 12, "outlinewidth": 0}
    if log:
        powers = np.arange(np.ceil(low), np.floor(high) + 1).astype(int)
        bar |= {"tickvals": powers, "ticktext": [power_of_ten(power) for power in powers]}
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
    """Draw a categorical map of the grid of input pairs, a downwards and b across.

    Args:
        code: position of each cell's category in `categories`; −1 for a missing cell.
        categories: title and colour, in order. Categories without cells are omitted from the legend.
        marked: cells with a dot.
        details: `customdata` of the hover template.
        mark_title: meaning of the dots.
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


def signed_matrix(
    values: Float[np.ndarray, "row column"], names: Sequence[str], *, z_title: str, limit: float = 1.0
) -> go.Figure:
    """Draw a square matrix of signed values with the numbers in its cells; NaN is blank.

    Args:
        values: the values.
        names: names of rows and columns.
        z_title: title of the colour bar.
        limit: absolute value at which the colour scale ends.
    """
    places = np.arange(len(names))
    figure = go.Figure()
    figure.add_heatmap(
        z=values.astype(np.float32),
        x=places,
        y=places,
        xgap=1,
        ygap=1,
        text=np.where(np.isfinite(values), np.char.mod("%.2f", np.nan_to_num(values).round(2) + 0.0), "–"),
        texttemplate="%{text}",
        customdata=np.array([[(row, column) for column in names] for row in names]),
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>" + z_title + " %{text}<extra></extra>",
        **_scale(limit, z_title),
    )
    styled(figure, 150 + 56 * max(3, len(names)))
    figure.update_layout(plot_bgcolor="#ececec")
    ticks = {"tickvals": places, "ticktext": list(names), "showgrid": False}
    figure.update_xaxes(**ticks, title_text="score", tickangle=-30)
    figure.update_yaxes(**ticks, title_text="score", autorange="reversed")
    return figure


def grid_of_values(
    values: Float[np.ndarray, "a b"],
    marks: Mapping[str, Bool[np.ndarray, "a b"]],
    details: Shaped[np.ndarray, "a b detail"],
    *,
    z_title: str,
    hover: str,
    signed: bool,
) -> go.Figure:
    """Draw values on the grid of input pairs, a downwards and b across; NaN is blank.

    Args:
        values: the values.
        marks: marked cells by the mark's meaning: the first mark is a dot, the second a ring.
        details: `customdata` of the hover template.
        z_title: title of the colour bar, with its unit.
        hover: plotly hover template.
        signed: whether the colours diverge from zero; otherwise they start at zero.
    """
    n_a, n_b = values.shape
    cell_px = 540 / max(n_a, n_b)
    # A quantile, because one extreme cell would leave all others white.
    limit = float(np.nanquantile(np.abs(values), 0.99)) if np.isfinite(values).any() else 1.0
    limit = limit or 1.0
    scale = _scale(limit, z_title)
    if not signed:
        scale |= {"colorscale": "Viridis", "zmin": 0.0}
    gap = 1 if cell_px > 6 else 0
    figure = go.Figure()
    z = values.astype(np.float32)
    figure.add_heatmap(z=z, customdata=details, hovertemplate=hover, xgap=gap, ygap=gap, **scale)
    # Small enough for the cell's colour to show around it.
    size = max(2.0, min(7.0, 0.35 * cell_px))
    ink = INK if signed else "white"
    looks: list[dict[str, Any]] = [
        {"symbol": "circle", "size": size, "color": ink},
        {"symbol": "circle-open", "size": size + 3, "color": ink, "line": {"width": 1}},
    ]
    for (title, mask), look in zip(marks.items(), looks, strict=False):
        a, b = np.nonzero(mask)
        figure.add_scatter(x=b, y=a, mode="markers", marker=look, name=f"{title} ({len(a):,})", hoverinfo="skip")
    styled(figure, 680)
    # White marks need a dark background in the legend too.
    if not signed:
        figure.update_layout(legend_bgcolor="#9a9a9a")
    figure.update_layout(plot_bgcolor="#e4e4e4", legend={"itemclick": False, "itemdoubleclick": False}, showlegend=True)
    figure.update_xaxes(title_text="b", range=[-0.5, n_b - 0.5], constrain="domain", showgrid=False)
    figure.update_yaxes(title_text="a", range=[n_a - 0.5, -0.5], scaleanchor="x", constrain="domain", showgrid=False)
    return figure


def influence_map(
    values: Float[np.ndarray, "target source"],
    targets: Int[np.ndarray, " target"],
    sources: Int[np.ndarray, " source"],
    unit: str = "nats",
) -> go.Figure:
    """Draw influence as a heatmap, with ticks at the middle of each label's rows and columns and lines between labels.

    Args:
        values: influence, rows and columns ordered by label.
        targets: the label of each row.
        sources: the label of each column.
        unit: unit of the values.
    """
    shown = _grouped(_grouped(values, 0), 1)
    scale = [len(labels) / size for labels, size in zip((targets, sources), shown.shape, strict=True)]
    # A quantile, because one extreme pair would leave all others white.
    limit = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    heading = {"text": f"influence ({unit}): positive helps", "side": "right", "font": {"size": 13}}
    figure = go.Figure()
    figure.add_heatmap(
        z=shown.astype(np.float32),
        colorscale=DIVERGING,
        zmin=-limit,
        zmax=limit,
        colorbar={"title": heading, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"influence %{{z:.3g}} {unit}<extra></extra>",
    )
    styled(figure, 520)
    x_ticks, y_ticks = _ticks(sources, scale[1]), _ticks(targets, scale[0])
    figure.update_xaxes(title_text="training example, by given label", showgrid=False, **x_ticks)
    figure.update_yaxes(title_text="target, by label", showgrid=False, autorange="reversed", **y_ticks)
    for edge in _edges(sources) / scale[1]:
        figure.add_vline(x=edge - 0.5, line={"color": INK, "width": 0.4})
    for edge in _edges(targets) / scale[0]:
        figure.add_hline(y=edge - 0.5, line={"color": INK, "width": 0.4})
    return figure


def _scale(limit: float, title: str) -> dict[str, Any]:
    heading = {"text": title, "side": "right", "font": {"size": 13}}
    bar = {"title": heading, "thickness": 12, "outlinewidth": 0}
    return {"colorscale": DIVERGING, "zmin": -limit, "zmax": limit, "colorbar": bar}


def _grouped(values: Float[np.ndarray, "row column"], axis: int) -> Float[np.ndarray, "fewer_rows fewer_columns"]:
    size = values.shape[axis]
    if size <= MOST:
        return values
    groups = np.array_split(np.arange(size), MOST)
    return np.stack([values.take(group, axis).mean(axis) for group in groups], axis)


def _edges(labels: Int[np.ndarray, " example"]) -> Float[np.ndarray, " edge"]:
    return np.nonzero(np.diff(labels))[0] + 1.0


def _ticks(labels: Int[np.ndarray, " example"], scale: float) -> dict[str, Any]:
    found, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    # With many classes only every few are named.
    step = max(1, len(found) // 20)
    middles = (starts + counts / 2) / scale - 0.5
    return {"tickvals": middles[::step].tolist(), "ticktext": [str(label) for label in found[::step]]}
