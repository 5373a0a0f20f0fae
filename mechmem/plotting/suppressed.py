"""Margins and their parts above, accuracies after removing parts below."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.bars import stacked_bars
from mechmem.plotting.style import INK, styled

COLORS = {"row and column effects": "#999999", "rule": "#E69F00", "remainder": "#56B4E9"}
"""The parts in the order of stacking, and their colours."""

TITLES = {
    "train_clean": "train, clean<br>true label",
    "train_noisy": "train, noisy<br>given label",
    "train_noisy_true": "train, noisy<br>true label",
    "test": "test<br>true label",
}


def suppression_figure(frame: pd.DataFrame, outside: Mapping[str, int], chance: float) -> go.Figure:
    """Draw the margins' parts as stacked bars, and below them the accuracies after each removal.

    Args:
        frame: columns quantity ("margin", "accuracy"), split, part, value, low, high, n.
        outside: cells of each split that are not on the grid.
        chance: accuracy of a blind guess.
    """
    parts = frame.loc[(frame["quantity"] == "margin") & frame["part"].isin([*COLORS, "total"])].copy()
    parts["bar"] = [_bar(split, n, outside.get(split, 0)) for split, n in zip(parts["split"], parts["n"], strict=True)]
    bars = stacked_bars(parts, COLORS, y_title="mean margin over<br>the strongest rival (logits)")
    accuracy = frame.loc[frame["quantity"] == "accuracy"].rename(columns={"split": "series", "part": "extractor"})
    accuracy["extractor"] = [_removal(part) for part in accuracy["extractor"]]
    dots = dot_plot(accuracy, chance)
    figure = make_subplots(2, 1, row_heights=[0.42, 0.58], vertical_spacing=0.2)
    for trace in bars.select_traces():
        figure.add_trace(trace, row=1, col=1)
    for trace in dots.update_traces(legend="legend2").select_traces():
        figure.add_trace(trace, row=2, col=1)
    styled(figure, 420 + dots.layout.height - 120)
    figure.update_layout(barmode="relative", bargap=0.45)
    figure.update_yaxes(title=bars.layout.yaxis.title, zeroline=True, zerolinecolor=INK, zerolinewidth=1, row=1)
    figure.update_xaxes(showgrid=False, row=1)
    below = dots.layout.yaxis
    figure.update_yaxes(tickvals=below.tickvals, ticktext=below.ticktext, range=below.range, showgrid=False, row=2)
    look = dots.layout.xaxis
    figure.update_xaxes(title=look.title, range=look.range, tickformat=look.tickformat, dtick=look.dtick, row=2)
    top = figure.layout.yaxis2.domain[1]
    figure.update_layout(legend2={"orientation": "h", "x": 0, "xanchor": "left", "y": top, "yanchor": "bottom"})
    return figure


def _bar(split: str, n: int, n_outside: int) -> str:
    outside = f"<br>({n_outside:,} outside the group)" if n_outside else ""
    return f"{TITLES[split]}<br>n = {n:,}{outside}"


def _removal(part: str) -> str:
    if part == "total":
        return "full logits"
    return part.replace("effects, fitted on", "effects,<br>fitted on").replace("without row and", "without row and<br>")
