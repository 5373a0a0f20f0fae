"""Examples as points, by two numbers of each."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.style import INK, SPLITS, SplitStyle, styled


def labelled_points(
    frame: pd.DataFrame, *, x: str, y: str, label: str, group: str, x_title: str, y_title: str
) -> go.Figure:
    """Draw a scatter of two columns, with a colour and a symbol per group, and zero on both axes.

    Args:
        frame: one row per point.
        x: column along x.
        y: column along y.
        label: column with what the hover text calls a point.
        group: column with the split of each point, or another name.
        x_title: what x is, with its unit.
        y_title: what y is, with its unit.
    """
    figure = go.Figure()
    for name, rows in frame.groupby(group, sort=False):
        style = SPLITS.get(str(name), SplitStyle(str(name), INK, "circle", "solid"))
        marker = {"symbol": style.symbol, "size": 8, "color": style.color, "line": {"color": "white", "width": 0.8}}
        figure.add_scatter(
            x=rows[x].to_numpy(float),
            y=rows[y].to_numpy(float),
            customdata=rows[label],
            mode="markers",
            name=style.title,
            marker=marker,
            hovertemplate=f"{label} %{{customdata}}<br>%{{x:.3g}}, %{{y:.3g}}<extra>%{{fullData.name}}</extra>",
        )
    styled(figure, 420)
    zero = {"zeroline": True, "zerolinecolor": INK, "zerolinewidth": 1}
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text=x_title, **zero)
    return figure.update_yaxes(title_text=y_title, **zero)
