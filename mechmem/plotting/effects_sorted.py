"""Normalised effects of interventions: a row per unit, or a sorted curve where there are many."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines, plain_style
from mechmem.plotting.style import INK, interval, styled

_TITLE = "normalised effect (0 nothing, 1 the donor's behaviour)"
_LANE, _ROW_GAP = 10, 12
"""Height of one series' lane, and of the gap between units, in pixels."""


def effect_dots(frame: pd.DataFrame, note: str = "") -> go.Figure:
    """Draw one row per unit, in the frame's order from top to bottom, each series in a lane of its own.

    Args:
        frame: columns unit, series, value, low, high. A value that is not finite is left out.
        note: what is written below the figure, e.g. why a series is missing.
    """
    units, names = (list(dict.fromkeys(frame[column])) for column in ("unit", "series"))
    row_px = _LANE * len(names) + _ROW_GAP
    height = max(row_px * len(units), 60)
    figure = go.Figure()
    for lane, name in enumerate(names):
        rows = frame.loc[(frame["series"] == name) & np.isfinite(frame["value"].to_numpy(float))]
        style = plain_style(name, lane)
        place = np.array([units.index(unit) for unit in rows["unit"]], dtype=float)
        figure.add_scatter(
            x=rows["value"].to_numpy(float),
            y=place + (lane - (len(names) - 1) / 2) * _LANE / row_px,
            mode="markers",
            name=name,
            showlegend=True,
            marker={"symbol": style.symbol, "size": 8, "color": style.color},
            error_x=interval(rows, thickness=1.2, width=0, color=style.color),
            customdata=rows[["low", "high"]].to_numpy(float),
            text=rows["unit"],
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
    return _noted(figure, note, height)


def sorted_effects(frame: pd.DataFrame, note: str = "") -> go.Figure:
    """Draw the units of each series from the largest effect to the smallest, with bands.

    Args:
        frame: columns unit, series, value, low, high. A value that is not finite is left out.
        note: what is written below the figure, e.g. why a series is missing.
    """
    ranked = frame.sort_values("value", ascending=False, kind="stable")
    ranked = ranked.assign(x=ranked.groupby("series").cumcount() + 1)
    figure = lines(
        ranked,
        x_title="neuron, sorted by effect (1 = largest)",
        y_title="normalised effect (1: the donor's behaviour)",
        markers=False,
    )
    figure.update_layout(showlegend=True)
    figure.add_hline(y=0, line={"color": INK, "width": 1, "dash": "dot"})
    return _noted(figure, note, height=380)


def _noted(figure: go.Figure, note: str, height: int) -> go.Figure:
    """Write a note below the axis title, in a margin of its own."""
    if note:
        rows = textwrap.wrap(note, 92)
        place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -56}
        figure.add_annotation(text="<br>".join(rows), showarrow=False, align="left", font={"size": 12}, **place)
        more = 20 * len(rows)
        figure.update_layout(height=height + more, margin={"b": 56 + more})
    return figure
