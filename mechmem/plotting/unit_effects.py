"""Normalised effects of interventions: a heatmap, a row per unit, or points where there are many units."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import plain_style
from mechmem.plotting.style import INK, interval, styled
from mechmem.plotting.unit_grids import grid_of, unit_maps
from mechmem.plotting.unit_points import sorted_points

MOST_ROWS = 40
"""Units that are drawn a row each; more are drawn as points."""

_TITLE = "normalised effect (0 nothing, 1 the donor's behaviour)"
_SHORT = "normalised effect (1: the donor's behaviour)"
_LANE, _ROW_GAP = 10, 12
"""Height of one series' lane, and of the gap between units, in pixels."""


def effects_figure(frame: pd.DataFrame, note: str = "") -> go.Figure:
    """Draw units that form a grid as heatmaps, others a row each, or as points where there are more than `MOST_ROWS`.

    Args:
        frame: columns name, point, unit (what kind it is), position, head, channel, neuron, series, value, low, high. A
            value that is not finite is left out.
        note: what is written below the figure, e.g. why a series is missing.
    """
    units, names = len(set(frame["name"])), list(dict.fromkeys(frame["series"]))
    if grid_of(frame.drop_duplicates("name")) is not None:
        figure = unit_maps(frame, titles={name: name for name in names}, z_title="normalised effect")
    elif units > MOST_ROWS:
        figure = sorted_points(frame, dict.fromkeys(names, 0.0), y_title=_SHORT, intervals=True)
    else:
        figure = effect_dots(frame)
    return _noted(figure, note, int(figure.layout.height))  # pyright: ignore[reportAttributeAccessIssue]


def effect_dots(frame: pd.DataFrame) -> go.Figure:
    """Draw one row per unit, in the frame's order from top to bottom, each series in a lane of its own.

    Args:
        frame: columns name, series, value, low, high. A value that is not finite is left out.
    """
    units, names = (list(dict.fromkeys(frame[column])) for column in ("name", "series"))
    row_px = _LANE * len(names) + _ROW_GAP
    height = max(row_px * len(units), 60)
    figure = go.Figure()
    for lane, name in enumerate(names):
        rows = frame.loc[(frame["series"] == name) & np.isfinite(frame["value"].to_numpy(float))]
        style = plain_style(name, lane)
        place = np.array([units.index(unit) for unit in rows["name"]], dtype=float)
        figure.add_scatter(
            x=rows["value"].to_numpy(float),
            y=place + (lane - (len(names) - 1) / 2) * _LANE / row_px,
            mode="markers",
            name=name,
            showlegend=True,
            marker={"symbol": style.symbol, "size": 8, "color": style.color},
            error_x=interval(rows, thickness=1.2, width=0, color=style.color),
            customdata=rows[["low", "high"]].to_numpy(float),
            text=rows["name"],
            hovertemplate="%{text}<br>%{fullData.name}: %{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            "<extra></extra>",
        )
    height += 136
    styled(figure, height)
    rows_at = {"tickvals": list(range(len(units))), "ticktext": units}
    figure.update_yaxes(**rows_at, range=[len(units) - 0.5, -0.5], showgrid=False, ticks="")
    # Dots on 0 and 1 and their lines keep clear of the labels and the edge.
    ends = frame[["value", "low", "high"]].to_numpy(float)
    ends = np.append(ends[np.isfinite(ends)], [0, 1])
    room = 0.03 * np.ptp(ends)
    figure.update_xaxes(title_text=f"{_TITLE}, 95 % interval", range=[ends.min() - room, ends.max() + room])
    for mark in (0, 1):
        figure.add_vline(x=mark, line={"color": INK, "width": 1, "dash": "dot"})
    return figure


def _noted(figure: go.Figure, note: str, height: int) -> go.Figure:
    """Write a note below the axis title, in a margin of its own."""
    if note:
        rows = textwrap.wrap(note, 92)
        place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -56}
        figure.add_annotation(text="<br>".join(rows), showarrow=False, align="left", font={"size": 12}, **place)
        more = 20 * len(rows)
        figure.update_layout(height=height + more, margin={"b": 56 + more})
    return figure
