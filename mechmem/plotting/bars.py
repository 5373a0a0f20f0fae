"""Sums of signed parts as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.style import INK, interval, styled


def stacked_bars(frame: pd.DataFrame, colors: Mapping[str, str], *, y_title: str) -> go.Figure:
    """Draw sums of signed parts: positive parts upwards, negative ones downwards, the total as a diamond.

    Args:
        frame: columns bar, part ("total" for the sum), value, low, high. Only the total's interval is drawn.
        colors: colour of each part, in the order of stacking.
        y_title: what the height shows, with its unit.
    """
    figure = go.Figure()
    hover = "%{fullData.name}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>%{x}</extra>"
    for part in (*colors, "total"):
        rows = frame.loc[frame["part"] == part]
        common = {"x": rows["bar"], "y": rows["value"].to_numpy(float), "name": part, "hovertemplate": hover}
        common["customdata"] = rows[["low", "high"]].to_numpy(float)
        if part in colors:
            figure.add_bar(**common, marker={"color": colors[part], "line": {"color": "white", "width": 1}})
            continue
        diamond = {"symbol": "diamond", "size": 11, "color": INK, "line": {"color": "white", "width": 1.5}}
        error = interval(rows, thickness=1.5, width=5, color=INK)
        figure.add_scatter(**common, mode="markers", marker=diamond, error_y=error)
    styled(figure, 420)
    figure.update_layout(barmode="relative", bargap=0.45)
    figure.update_yaxes(title_text=y_title, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    figure.update_xaxes(showgrid=False)
    return figure
