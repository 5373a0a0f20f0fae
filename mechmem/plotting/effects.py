"""Signed values: a matrix with its numbers written in, and a map of the grid of input pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Shaped

from mechmem.plotting.style import INK, SPLITS, styled

DIVERGING = [[0.0, SPLITS["train_clean"].color], [0.5, "#ffffff"], [1.0, SPLITS["train_noisy"].color]]
"""Blue below zero, white at zero, vermilion above: told apart by the colour-blind."""


def signed_matrix(
    values: Float[np.ndarray, "row column"], names: Sequence[str], *, z_title: str, limit: float = 1.0
) -> go.Figure:
    """Draw a square matrix of signed values with its numbers written in; NaN is left blank.

    Args:
        values: the values.
        names: what rows and columns are called.
        z_title: what the colour shows.
        limit: the value at which colours end, on both sides of zero.
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
    """Draw values on the grid of input pairs, a down and b across; NaN is left blank.

    Args:
        values: the values.
        marks: cells that get a mark, by what it means: the first a dot, the second a ring.
        details: what the hover template's `customdata` holds.
        z_title: what the colour shows, with its unit.
        hover: plotly hover template.
        signed: whether the colours diverge from zero; otherwise they rise from zero.
    """
    n_a, n_b = values.shape
    cell_px = 540 / max(n_a, n_b)
    # One cell with an extreme value would leave all others white.
    limit = float(np.nanquantile(np.abs(values), 0.99)) if np.isfinite(values).any() else 1.0
    limit = limit or 1.0
    scale = _scale(limit, z_title)
    if not signed:
        scale |= {"colorscale": "Viridis", "zmin": 0.0}
    gap = 1 if cell_px > 6 else 0
    figure = go.Figure()
    z = values.astype(np.float32)
    figure.add_heatmap(z=z, customdata=details, hovertemplate=hover, xgap=gap, ygap=gap, **scale)
    # Small enough to leave the cell's own colour to be seen around it.
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
    # White marks need a ground to stand on in the legend too.
    if not signed:
        figure.update_layout(legend_bgcolor="#9a9a9a")
    figure.update_layout(plot_bgcolor="#e4e4e4", legend={"itemclick": False, "itemdoubleclick": False}, showlegend=True)
    figure.update_xaxes(title_text="b", range=[-0.5, n_b - 0.5], constrain="domain", showgrid=False)
    figure.update_yaxes(title_text="a", range=[n_a - 0.5, -0.5], scaleanchor="x", constrain="domain", showgrid=False)
    return figure


def _scale(limit: float, title: str) -> dict[str, Any]:
    heading = {"text": title, "side": "right", "font": {"size": 13}}
    bar = {"title": heading, "thickness": 12, "outlinewidth": 0}
    return {"colorscale": DIVERGING, "zmin": -limit, "zmax": limit, "colorbar": bar}
