"""Figures side by side and stacked, and counts along an axis of whole numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int
from plotly.subplots import make_subplots

from mechmem.plotting.style import SplitStyle, styled

_ABOVE, _BELOW, _LEGEND_ROW = 30, 18, 30
"""Pixels above a panel for its title, below it, and per line of its legend."""
_LEGEND_CHARACTERS = 84
"""Number of legend characters in a line of 760 pixels, counting each entry's mark as eight."""


def side_by_side(figures: Sequence[go.Figure], height: int = 400) -> go.Figure:
    """Put simple figures side by side; a series in several of them appears once in the legend.

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
        styles: style of each series, by name.
        x_title: title of the x axis.
        y_title: title of the y axis.
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


def stack(figures: Mapping[str, go.Figure], *, height: int = 200) -> go.Figure:
    """Stack figures of one panel each; every figure keeps its axis titles and has its own legend above it.

    Args:
        figures: the figures by panel title, from the top down; their x axes show the same quantity.
        height: height of a panel in pixels.
    """
    lines = [_legend_lines(figure) for figure in figures.values()]
    heads = [_ABOVE + _LEGEND_ROW * count for count in lines]
    total = sum(heads) + len(figures) * (height + _BELOW) + 24
    stacked = make_subplots(len(figures), 1, shared_xaxes=True)
    top = 0
    for row, ((title, figure), head, count) in enumerate(zip(figures.items(), heads, lines, strict=True), 1):
        top += head
        upper, lower = 1 - top / total, 1 - (top + height) / total
        top += height + _BELOW
        legend = "legend" if row == 1 else f"legend{row}"
        for trace in _traces(figure):
            # A legend entry toggles only the traces of its own panel.
            group = None if trace.legendgroup is None else f"{row} {trace.legendgroup}"
            shown = trace.showlegend is not False and count > 0
            own = go.Scatter(trace).update(legend=legend, legendgroup=group, showlegend=shown)
            stacked.add_trace(own, row=row, col=1)
        _copy_axes(stacked, figure, row, last=row == len(figures))
        stacked.update_yaxes(domain=[lower, upper], row=row, col=1)
        place = {"orientation": "h", "x": 0, "xanchor": "left", "y": upper + 2 / total, "yanchor": "bottom"}
        stacked.update_layout({legend: place})
        heading = {"x": 0, "xref": "paper", "xanchor": "left", "y": upper + (head - 8) / total, "yref": "paper"}
        stacked.add_annotation(text=f"<b>{title}</b>", yanchor="top", showarrow=False, **heading)
    layout: Any = stacked.layout
    first = layout.legend.to_plotly_json()
    margins = {"t": 12, "b": 56}
    styled(stacked, total + sum(margins.values()))
    # The common style sets one legend and wide margins; here each panel has its own legend.
    stacked.update_layout(legend=first, margin=margins)
    return stacked


def _traces(figure: go.Figure) -> list[Any]:
    return list(figure.data)


def _legend_lines(figure: go.Figure) -> int:
    shown = [str(trace.name) for trace in _traces(figure) if trace.showlegend is not False]
    characters = sum(len(name) + 8 for name in shown)
    # A single series is named by the panel's title.
    return 0 if len(shown) < 2 else -(-characters // _LEGEND_CHARACTERS)


def _copy_axes(stacked: go.Figure, figure: go.Figure, row: int, *, last: bool) -> None:
    layout: Any = figure.layout
    x, y = layout.xaxis, layout.yaxis
    kept = {"type": x.type, "tickvals": x.tickvals, "ticktext": x.ticktext}
    stacked.update_xaxes({name: value for name, value in kept.items() if value is not None}, row=row, col=1)
    look = {"showticklabels": y.showticklabels, "showgrid": y.showgrid}
    stacked.update_yaxes(title_text=y.title.text, range=y.range, **look, row=row, col=1)
    if last:
        stacked.update_xaxes(title_text=x.title.text, row=row, col=1)
