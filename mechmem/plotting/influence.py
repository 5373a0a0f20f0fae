"""A matrix of influence, sources across and targets down, both ordered by label."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from mechmem.plotting.effects import DIVERGING
from mechmem.plotting.style import INK, styled

MOST = 400
"""Most rows and columns that are drawn: more are averaged in equal groups, and no screen would show them."""


def influence_map(
    values: Float[np.ndarray, "target source"], targets: Int[np.ndarray, " target"], sources: Int[np.ndarray, " source"]
) -> go.Figure:
    """Draw influence as a heatmap; ticks stand in the middle of each label's rows and columns, lines between them.

    Args:
        values: influence in nats, rows and columns ordered by label.
        targets: the label of each row.
        sources: the label of each column.
    """
    shown = _grouped(_grouped(values, 0), 1)
    scale = [len(labels) / size for labels, size in zip((targets, sources), shown.shape, strict=True)]
    # One pair with an extreme value would leave all others white.
    limit = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    heading = {"text": "influence (nats): positive helps", "side": "right", "font": {"size": 13}}
    figure = go.Figure()
    figure.add_heatmap(
        z=shown.astype(np.float32),
        colorscale=DIVERGING,
        zmin=-limit,
        zmax=limit,
        colorbar={"title": heading, "thickness": 12, "outlinewidth": 0},
        hovertemplate="influence %{z:.3g} nats<extra></extra>",
    )
    styled(figure, 520)
    x_ticks, y_ticks = _ticks(sources, scale[1]), _ticks(targets, scale[0])
    figure.update_xaxes(title_text="training example, by the label given to it", showgrid=False, **x_ticks)
    figure.update_yaxes(title_text="target, by its label", showgrid=False, autorange="reversed", **y_ticks)
    for edge in _edges(sources) / scale[1]:
        figure.add_vline(x=edge - 0.5, line={"color": INK, "width": 0.4})
    for edge in _edges(targets) / scale[0]:
        figure.add_hline(y=edge - 0.5, line={"color": INK, "width": 0.4})
    return figure


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
    # Of very many classes every few are named.
    step = max(1, len(found) // 20)
    middles = (starts + counts / 2) / scale - 0.5
    return {"tickvals": middles[::step].tolist(), "ticktext": [str(label) for label in found[::step]]}
