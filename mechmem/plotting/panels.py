"""Figures put side by side, and counts along an axis of whole numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int
from plotly.subplots import make_subplots

from mechmem.plotting.style import SplitStyle, styled


def side_by_side(figures: Sequence[go.Figure], height: int = 400) -> go.Figure:
    """Put simple figures next to each other; a series that stands in several is named once in the legend.

    Args:
        figures: figures with one x and one y axis.
        height: height of the whole, in pixels.
    """
    joined = make_subplots(1, len(figures), horizontal_spacing=0.11)
    named: set[str] = set()
    for column, figure in enumerate(figures, 1):
        traces: list[Any] = list(figure.select_traces())
        for trace in traces:
            shown = trace.showlegend is not False and trace.name not in named
            named.add(trace.name)
            own = copy.deepcopy(trace).update(showlegend=shown, legendgroup=trace.name)
            joined.add_trace(own, row=1, col=column)
        for axis, update in (("xaxis", joined.update_xaxes), ("yaxis", joined.update_yaxes)):
            layout: Any = figure.layout
            own = layout[axis]
            update(title_text=own.title.text, range=own.range, type=own.type, rangemode=own.rangemode, col=column)
    return styled(joined, height)


def counts(
    series: Mapping[str, Int[np.ndarray, " place"]], styles: Mapping[str, SplitStyle], *, x_title: str, y_title: str
) -> go.Figure:
    """Draw stacked bars of counts at 1, 2, ….

    Args:
        series: counts by name of the series, all of one length.
        styles: look of each series, by name.
        x_title: what the places are.
        y_title: what is counted.
    """
    figure = go.Figure()
    for name, values in series.items():
        marker: dict[str, Any] = {"color": styles[name].color, "line": {"color": "white", "width": 0.5}}
        hover = f"{x_title} %{{x}}: %{{y}} {y_title}<extra>%{{fullData.name}}</extra>"
        place = np.arange(1, len(values) + 1)
        figure.add_bar(x=place, y=values, name=styles[name].title, marker=marker, hovertemplate=hover)
    styled(figure, 360)
    figure.update_layout(barmode="stack", bargap=0.15, showlegend=True, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text=x_title, showgrid=False)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    return figure
