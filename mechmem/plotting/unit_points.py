"""Many units as points in the order of what they do, with what they would do otherwise as a line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import plain_style
from mechmem.plotting.style import SPLITS, interval, styled


def sorted_points(
    frame: pd.DataFrame,
    baselines: Mapping[str, float],
    *,
    y_title: str,
    y_range: tuple[float, float] | None = None,
    lowest_first: bool = False,
    intervals: bool = False,
) -> go.Figure:
    """Draw the units of each series as points from the largest value to the smallest.

    Units of different kinds stand in the order given, and so do positions of one point: they have an order of their
    own.

    Args:
        frame: columns name, unit (what kind it is), position, series, value, low, high. A value that is not finite is
            left out.
        baselines: by series the value of nothing done, drawn as a dotted line.
        y_title: what is measured, with its unit.
        y_range: ends of the axis.
        lowest_first: whether they go from the smallest value to the largest instead.
        intervals: whether intervals are drawn; otherwise they are shown where the mouse is.
    """
    found = frame.loc[np.isfinite(frame["value"].to_numpy(float))]
    present = list(dict.fromkeys(found["series"]))
    kinds = list(dict.fromkeys(frame["unit"]))
    ranked = len(kinds) == 1 and kinds[0] not in ("", "position")
    figure = go.Figure()
    for place, name in enumerate(sorted(present, key=lambda name: name not in SPLITS)):
        style = SPLITS.get(name) or plain_style(name, place)
        rows = found.loc[found["series"] == name]
        if ranked:
            rows = rows.sort_values("value", ascending=lowest_first, kind="stable")
        bars = interval(rows, thickness=1, width=0, color=_faint(style.color)) if intervals else None
        figure.add_scatter(
            x=rows["position"].to_numpy(int) if kinds == ["position"] else np.arange(1, len(rows) + 1),
            y=rows["value"].to_numpy(float),
            mode="markers",
            name=style.title,
            showlegend=True,
            # What is not a split may lie exactly under another series, and is open to let it be seen.
            marker={"symbol": style.symbol, "size": 5, "color": style.color}
            if place == 0 or name in SPLITS
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


def _faint(color: str) -> str:
    return f"rgba({','.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))},0.3)"
