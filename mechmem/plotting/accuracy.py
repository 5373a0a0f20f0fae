"""Dot plot of accuracies by extractor, with their controls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.style import FAINT, SPLIT_STYLES, SplitStyle, add_chance, interval, styled

_CONTROLS = {
    "untrained": "circle-open",
    "one-step": "square-open",
    "noise-only": "diamond-open",
    "random choice": "triangle-up-open",
    "inputs": "triangle-down-open",
    "label grid": "pentagon-open",
    "kernel ridge": "star-open",
}
_LANE, _ROW_GAP = 8, 12
"""Heights of a series' lane and of the gap between extractors, in pixels."""


def dot_plot(
    frame: pd.DataFrame, chance: float | None = None, styles: Mapping[str, SplitStyle] = SPLIT_STYLES
) -> go.Figure:
    """Draw accuracies by extractor: splits as filled marks, controls as open grey ones, with one lane per series.

    Args:
        frame: columns extractor, series (a split or the name of a control), value, low, high; accuracies in [0, 1]. NaN
            values and intervals that are not finite are omitted. Extractors are drawn from top to bottom in the frame's
            order; the row of an extractor without values says so.
        chance: accuracy of a blind guess, drawn as a dotted line.
        styles: series drawn filled and in colour; all others are drawn as controls.
    """
    extractors = list(dict.fromkeys(frame["extractor"]))
    found = frame.loc[np.isfinite(frame["value"].to_numpy(float))]
    present = list(dict.fromkeys(found["series"]))
    ordered = [name for name in (*styles, *_CONTROLS) if name in present]
    lanes = ordered + [name for name in present if name not in ordered]
    row_px = _LANE * len(lanes) + _ROW_GAP
    rows_px = max(row_px * len(extractors), 60)
    figure = go.Figure()
    for row in range(1, len(extractors), 2):
        figure.add_hrect(y0=row - 0.5, y1=row + 0.5, fillcolor="#f6f6f6", line_width=0, layer="below")
    for lane, name in enumerate(lanes):
        rows = found.loc[found["series"] == name]
        style = styles.get(name)
        color = style.color if style else FAINT
        symbol = style.symbol if style else _CONTROLS.get(name, "hexagon-open")
        place = np.array([extractors.index(extractor) for extractor in rows["extractor"]], dtype=float)
        figure.add_scatter(
            x=rows["value"].to_numpy(float),
            y=place + (lane - (len(lanes) - 1) / 2) * _LANE / row_px,
            mode="markers",
            name=style.title if style else name,
            legend="legend" if style else "legend2",
            marker={"symbol": symbol, "size": 8 if style else 7, "color": color},
            error_x=interval(rows, thickness=1.2, width=0, color=color),
            customdata=rows[["low", "high"]].to_numpy(float),
            text=rows["extractor"],
            hovertemplate="%{text}<br>%{fullData.name}: %{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            "<extra></extra>",
        )
    blank = [row for row, name in enumerate(extractors) if name not in set(found["extractor"])]
    if blank:
        look = {"textposition": "middle center", "textfont": {"size": 12, "color": FAINT}, "hoverinfo": "skip"}
        text = ["n/a (reason in the table)"] * len(blank)
        figure.add_scatter(x=[0.5] * len(blank), y=blank, mode="text", text=text, showlegend=False, **look)
    if chance is not None:
        add_chance(figure, chance, x=[chance, chance], y=[-0.5, len(extractors) - 0.5])
    styled(figure, rows_px + 188)
    figure.update_xaxes(title_text="accuracy (95 % interval)", range=[-0.03, 1.03], tickformat=".1f", dtick=0.2)
    rows_at = {"tickvals": list(range(len(extractors))), "ticktext": extractors}
    figure.update_yaxes(**rows_at, range=[len(extractors) - 0.5, -0.5], showgrid=False, ticks="")
    title = {"text": "Test accuracy of the controls:", "side": "top", "font": {"size": 13}}
    below = {"orientation": "h", "x": 0, "xanchor": "left", "y": -54 / rows_px, "yanchor": "top", "title": title}
    figure.update_layout(legend2=below, margin={"b": 120})
    return figure
