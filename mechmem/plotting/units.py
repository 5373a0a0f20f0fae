"""Normalised effects of interventions as heatmaps, one row per unit, or sorted points for many units."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import plain_style
from mechmem.plotting.style import INK, SPLIT_STYLES, interval, layout_of, styled, translucent
from mechmem.plotting.unit_grids import grid_of, unit_maps

MOST_ROWS = 40
"""Largest number of units drawn as rows; more are drawn as points."""
_TITLE = "normalised effect<br>(0: none, 1: the donor's behaviour)"
_SHORT = "normalised effect (1: the donor's behaviour)"
_LANE, _ROW_GAP = 10, 12
"""Heights of a series' lane and of the gap between units, in pixels."""


def effects_figure(frame: pd.DataFrame, note: str = "") -> go.Figure:
    """Draw units that form a grid as heatmaps, other units as rows, or as points if there are more than `MOST_ROWS`.

    Args:
        frame: columns name, point, unit (its kind), position, head, channel, neuron, series, value, low, high. Values
            that are not finite are omitted.
        note: text below the figure, e.g. the reason why a series is missing.
    """
    units, names = len(set(frame["name"])), list(dict.fromkeys(frame["series"]))
    if grid_of(frame.drop_duplicates("name")) is not None:
        figure = unit_maps(frame, titles={name: name for name in names}, z_title="normalised effect")
    elif units > MOST_ROWS:
        figure = sorted_points(frame, dict.fromkeys(names, 0.0), y_title=_SHORT, intervals=True)
    else:
        figure = effect_dots(frame)
    return _noted(figure, note, int(layout_of(figure).height))


def effect_dots(frame: pd.DataFrame) -> go.Figure:
    """Draw one row per unit, in the frame's order from top to bottom, with one lane per series.

    Args:
        frame: columns name, series, value, low, high. Values that are not finite are omitted.
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
    # Room on both sides keeps dots at 0 and 1 clear of the labels and the edge.
    ends = frame[["value", "low", "high"]].to_numpy(float)
    ends = np.append(ends[np.isfinite(ends)], [0, 1])
    room = 0.03 * np.ptp(ends)
    figure.update_xaxes(title_text=f"{_TITLE}, 95 % interval", range=[ends.min() - room, ends.max() + room])
    for mark in (0, 1):
        figure.add_vline(x=mark, line={"color": INK, "width": 1, "dash": "dot"})
    return figure


def sorted_points(
    frame: pd.DataFrame,
    baselines: Mapping[str, float],
    *,
    y_title: str,
    y_range: tuple[float, float] | None = None,
    lowest_first: bool = False,
    intervals: bool = False,
) -> go.Figure:
    """Draw the units of each series as points, sorted from the largest value to the smallest.

    Units of several kinds and positions of one point keep their given order.

    Args:
        frame: columns name, unit (its kind), position, series, value, low, high. Values that are not finite are
            omitted.
        baselines: value without intervention by series, drawn as a dotted line.
        y_title: title of the y axis, with its unit.
        y_range: ends of the axis.
        lowest_first: whether to sort from the smallest value to the largest instead.
        intervals: whether to draw intervals; otherwise only the hover text shows them.
    """
    found = frame.loc[np.isfinite(frame["value"].to_numpy(float))]
    present = list(dict.fromkeys(found["series"]))
    kinds = list(dict.fromkeys(frame["unit"]))
    ranked = len(kinds) == 1 and kinds[0] not in ("", "position")
    figure = go.Figure()
    for place, name in enumerate(sorted(present, key=lambda name: name not in SPLIT_STYLES)):
        style = SPLIT_STYLES.get(name) or plain_style(name, place)
        rows = found.loc[found["series"] == name]
        if ranked:
            rows = rows.sort_values("value", ascending=lowest_first, kind="stable")
        bars = interval(rows, thickness=1, width=0, color=translucent(style.color, 0.3)) if intervals else None
        figure.add_scatter(
            x=rows["position"].to_numpy(int) if kinds == ["position"] else np.arange(1, len(rows) + 1),
            y=rows["value"].to_numpy(float),
            mode="markers",
            name=style.title,
            showlegend=True,
            # A series that is not a split may coincide with another one, so its marks are open.
            marker={"symbol": style.symbol, "size": 5, "color": style.color}
            if place == 0 or name in SPLIT_STYLES
            else {"symbol": f"{style.symbol}-open", "size": 8, "color": style.color},
            error_y=bars,
            text=rows["name"],
            customdata=rows[["low", "high"]].to_numpy(float),
            hovertemplate="%{text}<br>%{fullData.name}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            "<extra></extra>",
        )
        if np.isfinite(baselines[name]):
            figure.add_hline(y=baselines[name], line={"color": style.color, "width": 1.5, "dash": "dot"})
    title = "edit, in the order given" if kinds != ["position"] else "position"
    if ranked:
        end = "lowest" if lowest_first else "largest"
        title = f"{kinds[0]}, sorted within each series (1 = {end})"
    styled(figure, 400)
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text=y_title, range=y_range)
    return figure


def _noted(figure: go.Figure, note: str, height: int) -> go.Figure:
    """Write a note below the axis title, with a margin for it."""
    if note:
        rows = textwrap.wrap(note, 92)
        place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -56}
        figure.add_annotation(text="<br>".join(rows), showarrow=False, align="left", font={"size": 12}, **place)
        more = 20 * len(rows)
        figure.update_layout(height=height + more, margin={"b": 56 + more})
    return figure
