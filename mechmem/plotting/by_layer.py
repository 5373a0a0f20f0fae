"""Lines over the layers of a network, and shares of examples by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines
from mechmem.plotting.named_layers import name_ticks, short
from mechmem.plotting.style import INK, SPLITS, SplitStyle, interval, styled

STYLES: Mapping[str, SplitStyle] = {
    "train": SplitStyle("train, all (given labels)", INK, "cross", "longdash"),
    **SPLITS,
}
"""The splits, and the training examples where it is not told which labels are wrong."""


def layer_lines(
    frame: pd.DataFrame, layers: Sequence[str], *, y_title: str, styles: Mapping[str, SplitStyle] = STYLES
) -> go.Figure:
    """Draw one line per series over the layers.

    Args:
        frame: columns layer, series, value; optionally low, high and panel, as in `lines`.
        layers: the layers in their order.
        y_title: what is measured, with its unit.
        styles: look of the series by name.
    """
    place = {layer: number for number, layer in enumerate(layers, 1)}
    shown = frame.assign(x=[place[layer] for layer in frame["layer"]])
    figure = lines(shown, x_title="layer", y_title=y_title, styles=styles)
    ends = [0.7, len(layers) + 0.3]
    figure.update_xaxes(name_ticks(short(layers), first=1), range=ends)
    return figure


def depth_bars(frame: pd.DataFrame, places: Sequence[str], *, x_title: str, y_title: str) -> go.Figure:
    """Draw bars of the splits' shares side by side at each place.

    Args:
        frame: columns split, depth (a place's number from 0), value, low, high.
        places: what the places are called, from the first to the last.
        x_title: what the places are.
        y_title: what is counted, with its unit.
    """
    figure = go.Figure()
    for split, style in STYLES.items():
        rows = frame.loc[frame["split"] == split]
        if len(rows):
            figure.add_bar(
                x=rows["depth"],
                y=rows["value"],
                name=style.title,
                marker={"color": style.color},
                error_y=interval(rows, thickness=1.2, width=3, color=INK),
                hovertemplate="%{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
            )
    styled(figure, 400)
    figure.update_layout(barmode="group", bargap=0.25, showlegend=True)
    figure.update_xaxes(name_ticks(short(places)), title_text=x_title, showgrid=False)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    return figure
