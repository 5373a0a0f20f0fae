"""Distributions over neurons."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechmem.plotting.lines import plain_style
from mechmem.plotting.style import styled


def histogram(
    series: Mapping[str, Float[np.ndarray, " value"]],
    *,
    x_title: str,
    y_title: str = "neurons",
    bins: int = 60,
    colors: Mapping[str, str] | None = None,
) -> go.Figure:
    """Draw outlined histograms over each other, on common bins.

    Args:
        series: values by name; values that are not finite are left out.
        x_title: what the values are, with their unit.
        y_title: what is counted.
        bins: number of bins over the range of all values.
        colors: colour of each series; by default those of lines without a style.
    """
    finite = {name: values[np.isfinite(values)] for name, values in series.items()}
    pooled = np.concatenate([*finite.values(), np.zeros(0)])
    low, high = (float(pooled.min()), float(pooled.max())) if len(pooled) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    figure = go.Figure()
    for position, (name, values) in enumerate(finite.items()):
        counts = np.histogram(values, edges)[0]
        style = plain_style(name, position)
        color = (colors or {}).get(name, style.color)
        figure.add_scatter(
            x=np.repeat(edges, 2)[1:-1],
            y=np.repeat(counts, 2),
            mode="lines",
            fill="tozeroy",
            name=name,
            line={"color": color, "width": 1.5, "dash": style.dash},
            hovertemplate="%{x:.3g}: %{y} " + y_title + "<extra>%{fullData.name}</extra>",
            opacity=0.85,
        )
    styled(figure, 380)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    return figure
