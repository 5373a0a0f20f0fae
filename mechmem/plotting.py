"""The few figure shapes: arrays and frames in, plotly figures out.

One palette for the four splits everywhere (Okabe and Ito's, which the colour-blind can tell apart), and a symbol and a
dash beside each colour. Controls are open and grey: they are never mistaken for the network's own figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int, Shaped
from plotly.subplots import make_subplots

INK, FAINT, GRID = "#222222", "#6b6b6b", "#e3e3e3"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclasses.dataclass(frozen=True)
class SplitStyle:
    """How a split is drawn, in every figure.

    Attributes:
        title: what a legend calls it.
        color: its colour.
        symbol: its marker.
        dash: its line.
    """

    title: str
    color: str
    symbol: str
    dash: str


SPLITS: Mapping[str, SplitStyle] = {
    "train_clean": SplitStyle("train, clean", "#0072B2", "square", "dash"),
    "train_noisy": SplitStyle("train, noisy (given labels)", "#D55E00", "diamond", "dashdot"),
    "train_noisy_true": SplitStyle("train, noisy (true labels)", "#CC79A7", "triangle-up", "dot"),
    "test": SplitStyle("test", "#009E73", "circle", "solid"),
}
"""The four splits, in the order in which they are listed."""

PARTS = {"row and column effects": "#999999", "rule": "#E69F00", "remainder": "#56B4E9"}
"""Colours of the parts of a margin."""

OUTCOMES = {"right": "#9ec9e2", "memorized": "#D55E00", "wrong": "#3b3b3b", "unknown": "#d9d9d9"}
"""Colours of what became of an input."""

_CONTROLS = {
    "untrained": "circle-open",
    "one-step": "square-open",
    "noise-only": "diamond-open",
    "random frequency": "triangle-up-open",
    "label grid": "pentagon-open",
    "kernel ridge": "star-open",
}
_SPARE = ("hexagon-open", "cross-open", "x-open", "hourglass-open", "bowtie-open")


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure the common look: fonts, margins, a white ground, and legends beside the data, never over it."""
    figure.update_layout(
        # An empty template keeps every figure's file free of plotly's default one (7 kB each).
        template=go.layout.Template(),
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 64, "r": 24, "t": 44, "b": 56},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom"},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": FAINT, "ticks": "outside", "tickcolor": FAINT}
    figure.update_xaxes(**axis, automargin=True)
    figure.update_yaxes(**axis, automargin=True)
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def dot_plot(frame: pd.DataFrame, chance: float | None = None) -> go.Figure:
    """Draw accuracies by extractor: the splits as filled marks, controls as open grey ones, each in a lane of its own.

    Args:
        frame: columns extractor, series (a split or the name of a control), value, low, high; accuracies in [0, 1]. A
            value that is NaN is left out, an interval that is not finite is not drawn. Extractors are drawn from top
            to bottom in the frame's order.
        chance: accuracy of a blind guess, drawn as a dotted line.
    """
    extractors = list(dict.fromkeys(frame["extractor"]))
    present = list(dict.fromkeys(frame.loc[np.isfinite(frame["value"].astype(float)), "series"]))
    controls = [name for name in present if name not in SPLITS]
    lanes = [name for name in SPLITS if name in present] + controls
    lane_px, row_px = 10, 10 * len(lanes) + 14
    height = max(row_px * len(extractors), 60) + 150
    figure = go.Figure()
    for row in range(1, len(extractors), 2):
        figure.add_hrect(y0=row - 0.5, y1=row + 0.5, fillcolor="#f6f6f6", line_width=0, layer="below")
    if chance is not None:
        label = {"text": "chance", "font": {"size": 11, "color": FAINT}, "textposition": "start", "textangle": 0}
        figure.add_vline(x=chance, line={"color": FAINT, "width": 1, "dash": "dot"}, label=label)
    spare = iter(_SPARE * len(controls))
    for lane, name in enumerate(lanes):
        rows = frame[(frame["series"] == name) & np.isfinite(frame["value"].astype(float))]
        values = {key: rows[key].to_numpy(float) for key in ("value", "low", "high")}
        drawn = np.isfinite(values["low"]) & np.isfinite(values["high"])
        offset = (lane - (len(lanes) - 1) / 2) * lane_px / row_px
        style = SPLITS.get(name)
        color = style.color if style else FAINT
        symbol = style.symbol if style else _CONTROLS.get(name) or next(spare)
        figure.add_scatter(
            x=values["value"],
            y=np.array([extractors.index(extractor) for extractor in rows["extractor"]]) + offset,
            mode="markers",
            name=style.title if style else name,
            legend="legend" if style else "legend2",
            marker={
                "symbol": symbol,
                "size": 9 if style else 8,
                "color": color,
                "line": {"width": 0 if style else 1.4},
            },
            error_x={
                "array": np.where(drawn, np.clip(values["high"], 0, 1) - values["value"], 0),
                "arrayminus": np.where(drawn, values["value"] - np.clip(values["low"], 0, 1), 0),
                "thickness": 1.2,
                "width": 0,
                "color": color,
            },
            customdata=np.stack([values["low"], values["high"]], 1),
            text=rows["extractor"],
            hovertemplate="%{text}<br>%{fullData.name}: %{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            "<extra></extra>",
        )
    styled(figure, height)
    figure.update_xaxes(title="accuracy (95 % interval)", range=[-0.03, 1.03], tickformat=".1f", dtick=0.2)
    figure.update_yaxes(
        tickvals=list(range(len(extractors))),
        ticktext=extractors,
        range=[len(extractors) - 0.5, -0.5],
        showgrid=False,
        ticks="",
    )
    below = {"title": {"text": "test accuracy of the controls   "}, "y": -58 / (height - 100), "yanchor": "top"}
    figure.update_layout(legend2={"orientation": "h", "x": 0, "xanchor": "left", **below})
    return figure


def curves(
    frame: pd.DataFrame, y: str = "accuracy", y_title: str = "accuracy", chance: float | None = None
) -> go.Figure:
    """Draw training curves of the splits over log steps; step 0 stands left of step 1, where a log axis has no place.

    Args:
        frame: columns step, split and `y`. A split without any value is left out.
        y: which column to draw.
        y_title: what the axis calls it, with its unit.
        chance: value of a blind guess, drawn as a dotted line.
    """
    figure = go.Figure()
    for name, style in SPLITS.items():
        rows = frame[(frame["split"] == name) & frame[y].notna()]
        if rows.empty:
            continue
        step = rows["step"].to_numpy(float)
        figure.add_scatter(
            x=np.where(step == 0, 0.5, step),
            y=rows[y].to_numpy(float),
            customdata=step,
            mode="lines+markers",
            name=style.title,
            line={"color": style.color, "dash": style.dash, "width": 2},
            marker={"symbol": style.symbol, "size": 5},
            hovertemplate="step %{customdata:d}: %{y:.3f}<extra>%{fullData.name}</extra>",
        )
    if chance is not None:
        label = {"text": "chance", "font": {"size": 11, "color": FAINT}, "textposition": "start"}
        figure.add_hline(y=chance, line={"color": FAINT, "width": 1, "dash": "dot"}, label=label)
    last = float(frame["step"].max()) if len(frame) else 1.0
    ticks = [0.5, *(10.0**k for k in range(int(np.log10(max(last, 1))) + 1))]
    styled(figure, 380)
    figure.update_xaxes(
        title="training step (log scale)",
        type="log",
        tickvals=ticks,
        ticktext=["0", *(f"{int(tick):,}" for tick in ticks[1:])],
    )
    figure.update_yaxes(title=y_title)
    return figure


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One of several heatmaps side by side.

    Attributes:
        title: its heading, which may take two lines.
        z: the values; NaN is left blank.
        x: coordinates of the columns.
        y: coordinates of the rows, from the bottom up.
    """

    title: str
    z: Float[np.ndarray, "y x"]
    x: Shaped[np.ndarray, " x"]
    y: Shaped[np.ndarray, " y"]


def heatmaps(
    panels: Sequence[Panel], *, x_title: str, y_title: str, z_title: str, hover: str, log: bool = False
) -> go.Figure:
    """Draw heatmaps side by side on one colour scale.

    Args:
        panels: the heatmaps.
        x_title: what the columns are, with their unit.
        y_title: what the rows are.
        z_title: what the colour shows.
        hover: plotly hover template.
        log: whether the values are decimal logarithms, so that the colour bar shows powers of ten.
    """
    figure = make_subplots(1, len(panels), subplot_titles=[panel.title for panel in panels], horizontal_spacing=0.09)
    for column, panel in enumerate(panels, 1):
        # Single precision halves the file, and no eye tells the difference.
        z = panel.z.astype(np.float32)
        trace = go.Heatmap(z=z, x=panel.x, y=panel.y, coloraxis="coloraxis", hovertemplate=hover)
        figure.add_trace(trace, row=1, col=column)
    finite = np.concatenate([panel.z[np.isfinite(panel.z)].ravel() for panel in panels])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    bar: dict[str, Any] = {"title": {"text": z_title, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    if log:
        powers = list(range(int(np.ceil(low)), int(np.floor(high)) + 1))
        bar |= {"tickvals": powers, "ticktext": [f"10<sup>{power}</sup>" for power in powers]}
    styled(figure, 420)
    scale = {"colorscale": "Viridis", "cmin": low if log else 0.0, "cmax": max(high, low + 1e-9), "colorbar": bar}
    figure.update_layout(coloraxis=scale, plot_bgcolor="#ececec", margin={"t": 64})
    figure.update_xaxes(title=x_title, showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title=y_title, col=1)
    return figure


def stacked_bars(parts: pd.DataFrame, totals: pd.DataFrame, colors: Mapping[str, str], *, y_title: str) -> go.Figure:
    """Draw sums of signed parts: positive parts upwards, negative ones downwards, the total as a diamond.

    Args:
        parts: columns bar, part, value, low, high.
        totals: columns bar, value, low, high; an interval that is not finite is not drawn.
        colors: colour of each part, in the order of stacking.
        y_title: what the height shows, with its unit.
    """
    figure = go.Figure()
    for part, color in colors.items():
        rows = parts[parts["part"] == part]
        figure.add_bar(
            x=rows["bar"],
            y=rows["value"].to_numpy(float),
            name=part,
            marker={"color": color, "line": {"color": "white", "width": 1}},
            customdata=rows[["low", "high"]].to_numpy(float),
            hovertemplate="%{fullData.name}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>%{x}</extra>",
        )
    value, low, high = (totals[key].to_numpy(float) for key in ("value", "low", "high"))
    drawn = np.isfinite(low) & np.isfinite(high)
    figure.add_scatter(
        x=totals["bar"],
        y=value,
        name="total",
        mode="markers",
        marker={"symbol": "diamond", "size": 11, "color": INK, "line": {"color": "white", "width": 1.5}},
        error_y={
            "array": np.where(drawn, high - value, 0),
            "arrayminus": np.where(drawn, value - low, 0),
            "thickness": 1.5,
            "width": 5,
            "color": INK,
        },
        customdata=np.stack([low, high], 1),
        hovertemplate="total: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>%{x}</extra>",
    )
    styled(figure, 420)
    figure.update_layout(barmode="relative", bargap=0.45)
    figure.update_yaxes(title=y_title, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    figure.update_xaxes(showgrid=False)
    return figure


def grid_map(
    code: Int[np.ndarray, "a b"],
    categories: Mapping[str, str],
    marked: Bool[np.ndarray, "a b"],
    details: Shaped[np.ndarray, "a b detail"],
    *,
    mark_title: str,
    hover: str,
) -> go.Figure:
    """Draw a categorical map of the grid of input pairs, a down and b across.

    Args:
        code: position of each cell's category in `categories`; −1 for a cell that does not exist.
        categories: title and colour, in order. One that occurs nowhere is left out of the legend.
        marked: cells that get a dot.
        details: what the hover template's `customdata` holds.
        mark_title: what the dots mean.
        hover: plotly hover template.
    """
    n_a, n_b = code.shape
    cell_px = 560 / max(n_a, n_b)
    colors = list(categories.values())
    steps = [[(i + side) / len(colors), color] for i, color in enumerate(colors) for side in (0, 1)]
    figure = go.Figure()
    figure.add_heatmap(
        z=np.where(code < 0, np.nan, code).astype(np.float32),
        customdata=details,
        colorscale=steps,
        zmin=-0.5,
        zmax=len(colors) - 0.5,
        showscale=False,
        xgap=1 if cell_px > 6 else 0,
        ygap=1 if cell_px > 6 else 0,
        hovertemplate=hover,
    )
    for position, (title, color) in enumerate(categories.items()):
        if (code == position).any():
            count = int((code == position).sum())
            marker = {"symbol": "square", "size": 11, "color": color}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{title} ({count:,})")
    a, b = np.nonzero(marked)
    dot = {"size": max(2.0, min(6.0, 0.3 * cell_px)), "color": "white", "line": {"color": INK, "width": 0.8}}
    figure.add_scatter(x=b, y=a, mode="markers", marker=dot, name=f"{mark_title} ({len(a):,})", hoverinfo="skip")
    styled(figure, 680)
    figure.update_layout(legend={"itemclick": False, "itemdoubleclick": False})
    figure.update_xaxes(title="b", range=[-0.5, n_b - 0.5], constrain="domain", showgrid=False)
    figure.update_yaxes(title="a", range=[n_a - 0.5, -0.5], scaleanchor="x", constrain="domain", showgrid=False)
    return figure
