"""Stacked bars, histograms, dots with intervals, and scatters of labelled points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from mechmem.plotting.lines import plain_style
from mechmem.plotting.style import FAINT, INK, SPLIT_STYLES, SplitStyle, interval, styled

_LINES = (("dash", SPLIT_STYLES["train_noisy"].color), ("dot", FAINT))


def stacked_bars(frame: pd.DataFrame, colors: Mapping[str, str], *, y_title: str) -> go.Figure:
    """Draw sums of signed parts: positive parts upwards, negative ones downwards, the total as a diamond.

    Args:
        frame: columns bar, part ("total" for the sum), value, low, high. Only the total's interval is drawn.
        colors: colour of each part, in the order of stacking.
        y_title: title of the y axis, with its unit.
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


def histogram(
    series: Mapping[str, Float[np.ndarray, " value"]],
    *,
    x_title: str,
    y_title: str = "neurons",
    bins: int = 60,
    colors: Mapping[str, str] | None = None,
) -> go.Figure:
    """Draw overlaid outlined histograms on common bins.

    Args:
        series: values by name; values that are not finite are omitted.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis.
        bins: number of bins over the range of all values.
        colors: colour of each series; by default those of `plain_style`.
    """
    finite = {name: values[np.isfinite(values)] for name, values in series.items()}
    pooled = np.concatenate([*finite.values(), np.zeros(0)])
    low, high = (float(pooled.min()), float(pooled.max())) if len(pooled) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    figure = go.Figure()
    for position, (name, values) in enumerate(finite.items()):
        counts = np.histogram(values, edges)[0]
        style = plain_style(name, position)
        color = (colors or {}).get(name, style.color)
        figure.add_scatter(
            x=np.repeat(edges, 2)[1:-1],
            y=np.repeat(counts, 2),
            mode="lines",
            fill="tozeroy",
            name=name,
            line={"color": color, "width": 1.5, "dash": style.dash},
            hovertemplate="%{x:.3g}: %{y} " + y_title + "<extra>%{fullData.name}</extra>",
            opacity=0.85,
        )
    styled(figure, 380)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    return figure


def dots(frame: pd.DataFrame, lines: Mapping[str, Mapping[str, float]], *, x_title: str) -> go.Figure:
    """Draw values as dots with horizontal intervals.

    Args:
        frame: columns row, panel, value, low, high; rows are drawn from the top in their order.
        lines: up to two vertical lines by name, each with its x in every panel.
        x_title: title of every x axis.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    rows = list(dict.fromkeys(frame["row"]))
    figure = make_subplots(1, len(panels), subplot_titles=panels, shared_yaxes=True, horizontal_spacing=0.04)
    for column, panel in enumerate(panels, 1):
        own = frame.loc[frame["panel"] == panel]
        error = interval(own, thickness=1.5, width=4, color=INK)
        figure.add_scatter(
            x=own["value"].to_numpy(float),
            y=own["row"],
            error_x=error,
            mode="markers",
            marker={"size": 9, "color": SPLIT_STYLES["train_clean"].color, "line": {"color": "white", "width": 1}},
            name="value",
            showlegend=column == 1 and bool(lines),
            hovertemplate="%{y}: %{x:.3f}<extra>" + panel + "</extra>",
            row=1,
            col=column,
        )
        for (name, places), (dash, color) in zip(lines.items(), _LINES, strict=False):
            figure.add_scatter(
                x=[places[panel]] * 2,
                y=[rows[0], rows[-1]],
                mode="lines",
                line={"dash": dash, "color": color, "width": 1.8},
                name=name,
                showlegend=column == 1,
                hovertemplate=f"{name}: %{{x:.3f}}<extra>{panel}</extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=x_title, row=1, col=column)
    plot = 30 * max(3, len(rows))
    styled(figure, plot + 170)
    # The panels' titles are between the legend and the data.
    figure.update_layout(margin={"t": 96}, legend_y=1 + 30 / plot)
    return figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=rows, automargin=True)


def labelled_points(
    frame: pd.DataFrame, *, x: str, y: str, label: str, group: str, x_title: str, y_title: str
) -> go.Figure:
    """Draw a scatter of two columns, with a colour and a symbol per group, and zero on both axes.

    Args:
        frame: one row per point.
        x: column along x.
        y: column along y.
        label: column with the hover text of each point.
        group: column with the split of each point, or another name.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
    """
    figure = go.Figure()
    for name, rows in frame.groupby(group, sort=False):
        style = SPLIT_STYLES.get(str(name), SplitStyle(str(name), INK, "circle", "solid"))
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
