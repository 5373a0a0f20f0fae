"""Figures of one panel each, stacked over one common axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.style import styled

_ABOVE, _BELOW, _LEGEND_ROW = 30, 18, 30
"""Pixels over a panel for its title, under it, and per line of its legend."""

_LEGEND_CHARACTERS = 84
"""How many characters of legend fit in a line of 760 pixels, counting each entry's mark as eight."""


def stack(figures: Mapping[str, go.Figure], *, height: int = 200) -> go.Figure:
    """Set figures of one panel under each other; each keeps its axis titles and has its own legend above it.

    Args:
        figures: the figures by the title of their panel, from the top down; their x axes show the same quantity.
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
            # Panels are switched on and off apart.
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
    # The common look sets one legend and wide margins; here each panel has its own.
    stacked.update_layout(legend=first, margin=margins)
    return stacked


def _traces(figure: go.Figure) -> list[Any]:
    return list(figure.data)


def _legend_lines(figure: go.Figure) -> int:
    shown = [str(trace.name) for trace in _traces(figure) if trace.showlegend is not False]
    characters = sum(len(name) + 8 for name in shown)
    # A single series is what the panel's title says.
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
