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
    "test_in_group": SplitStyle("test, nonzero", "#56B4E9", "cross", "longdash"),
}
"""The four splits, in the order in which they are listed; and the test inputs without a factor of 0."""

_CONTROLS = {
    "untrained": "circle-open",
    "one-step": "square-open",
    "noise-only": "diamond-open",
    "random frequency": "triangle-up-open",
    "label grid": "pentagon-open",
    "kernel ridge": "star-open",
}
_LANE, _ROW_GAP = 8, 12
"""Height of one series' lane in a dot plot, and of the gap between extractors, in pixels."""


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure the common look; legends stand above the data, never over it."""
    figure.update_layout(
        # An empty template keeps plotly's default one (7 kB) out of every figure's file.
        template=go.layout.Template(),
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 64, "r": 24, "t": 64, "b": 56},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom"},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "ticks": "outside", "automargin": True}
    title = {"font": {"size": 13}, "standoff": 10}
    figure.update_xaxes(**axis, title=title)
    figure.update_yaxes(**axis, title=title)
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def _interval(rows: pd.DataFrame, **look: Any) -> dict[str, Any]:
    """Error bars from columns value, low, high; none where an end is not finite."""
    value, low, high = (rows[key].to_numpy(float) for key in ("value", "low", "high"))
    drawn = np.isfinite(low) & np.isfinite(high)
    return {"array": np.where(drawn, high - value, 0), "arrayminus": np.where(drawn, value - low, 0), **look}


def _add_chance(figure: go.Figure, chance: float, **line: list[float]) -> None:
    """Add a dotted line, named in the legend, where a blind guess stands."""
    look = {"color": INK, "width": 1, "dash": "dot"}
    figure.add_scatter(**line, mode="lines", line=look, name=f"chance ({chance:.1%})", hoverinfo="skip")


def dot_plot(frame: pd.DataFrame, chance: float | None = None, styles: Mapping[str, SplitStyle] = SPLITS) -> go.Figure:
    """Draw accuracies by extractor: the splits as filled marks, controls as open grey ones, each in a lane of its own.

    Args:
        frame: columns extractor, series (a split or the name of a control), value, low, high; accuracies in [0, 1]. A
            value that is NaN is left out, an interval that is not finite is not drawn. Extractors are drawn from top
            to bottom in the frame's order.
        chance: accuracy of a blind guess, drawn as a dotted line.
        styles: the series that are drawn filled and in colour; every other one is drawn as a control.
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
            error_x=_interval(rows, thickness=1.2, width=0, color=color),
            customdata=rows[["low", "high"]].to_numpy(float),
            text=rows["extractor"],
            hovertemplate="%{text}<br>%{fullData.name}: %{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            "<extra></extra>",
        )
    if chance is not None:
        _add_chance(figure, chance, x=[chance, chance], y=[-0.5, len(extractors) - 0.5])
    styled(figure, rows_px + 188)
    figure.update_xaxes(title_text="accuracy (95 % interval)", range=[-0.03, 1.03], tickformat=".1f", dtick=0.2)
    rows_at = {"tickvals": list(range(len(extractors))), "ticktext": extractors}
    figure.update_yaxes(**rows_at, range=[len(extractors) - 0.5, -0.5], showgrid=False, ticks="")
    title = {"text": "Test accuracy of the controls:", "side": "top", "font": {"size": 13}}
    below = {"orientation": "h", "x": 0, "xanchor": "left", "y": -54 / rows_px, "yanchor": "top", "title": title}
    figure.update_layout(legend2=below, margin={"b": 120})
    return figure


def curves(frame: pd.DataFrame, chance: float | None = None) -> go.Figure:
    """Draw training curves of the splits over log steps; step 0 stands left of step 1, where a log axis has no place.

    Args:
        frame: columns step, split, accuracy. A split without any value is left out.
        chance: accuracy of a blind guess, drawn as a dotted line.
    """
    figure = go.Figure()
    for name, style in SPLITS.items():
        rows = frame.loc[(frame["split"] == name) & np.isfinite(frame["accuracy"].to_numpy(float))]
        if rows.empty:
            continue
        step = rows["step"].to_numpy(float)
        figure.add_scatter(
            x=np.where(step == 0, 0.5, step),
            y=rows["accuracy"].to_numpy(float),
            customdata=step,
            mode="lines+markers",
            name=style.title,
            line={"color": style.color, "dash": style.dash, "width": 2},
            marker={"symbol": style.symbol, "size": 5},
            hovertemplate="step %{customdata:d}: %{y:.3f}<extra>%{fullData.name}</extra>",
        )
    last = int(frame["step"].to_numpy().max(initial=1))
    if chance is not None:
        _add_chance(figure, chance, x=[0.5, last], y=[chance, chance])
    powers = 10 ** np.arange(len(str(last)))
    styled(figure, 380)
    ticks = {"tickvals": [0.5, *powers.tolist()], "ticktext": ["0", *(f"{power:,}" for power in powers)]}
    figure.update_xaxes(title_text="training step (log scale)", type="log", **ticks)
    figure.update_yaxes(title_text="accuracy")
    return figure


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One of several heatmaps side by side.

    Attributes:
        title: its heading, which may take several lines.
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
    finite = np.concatenate([panel.z[np.isfinite(panel.z)] for panel in panels])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    title = {"text": z_title, "side": "right", "font": {"size": 13}}
    bar: dict[str, Any] = {"title": title, "thickness": 12, "outlinewidth": 0}
    if log:
        powers = np.arange(np.ceil(low), np.floor(high) + 1).astype(int)
        bar |= {"tickvals": powers, "ticktext": [f"10<sup>{power}</sup>" for power in powers]}
    styled(figure, 440)
    scale = {"colorscale": "Viridis", "cmin": low if log else 0.0, "cmax": max(high, low + 1e-9), "colorbar": bar}
    figure.update_layout(coloraxis=scale, plot_bgcolor="#ececec", margin={"t": 88})
    figure.update_xaxes(title_text=x_title, showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title_text=y_title, col=1)
    return figure


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
        error = _interval(rows, thickness=1.5, width=5, color=INK)
        figure.add_scatter(**common, mode="markers", marker=diamond, error_y=error)
    styled(figure, 420)
    figure.update_layout(barmode="relative", bargap=0.45)
    figure.update_yaxes(title_text=y_title, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
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
    gap = 1 if cell_px > 6 else 0
    colors = list(categories.values())
    steps = [[(i + side) / len(colors), color] for i, color in enumerate(colors) for side in (0, 1)]
    z = np.where(code < 0, np.nan, code).astype(np.float32)
    scale = {"colorscale": steps, "zmin": -0.5, "zmax": len(colors) - 0.5, "showscale": False}
    figure = go.Figure()
    figure.add_heatmap(z=z, customdata=details, hovertemplate=hover, xgap=gap, ygap=gap, **scale)
    for position, (title, color) in enumerate(categories.items()):
        count = int((code == position).sum())
        if count:
            marker = {"symbol": "square", "size": 11, "color": color}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{title} ({count:,})")
    a, b = np.nonzero(marked)
    dot = {"size": max(2.0, min(6.0, 0.3 * cell_px)), "color": "white", "line": {"color": INK, "width": 0.8}}
    figure.add_scatter(x=b, y=a, mode="markers", marker=dot, name=f"{mark_title} ({len(a):,})", hoverinfo="skip")
    styled(figure, 680)
    figure.update_layout(legend={"itemclick": False, "itemdoubleclick": False})
    figure.update_xaxes(title_text="b", range=[-0.5, n_b - 0.5], constrain="domain", showgrid=False)
    figure.update_yaxes(title_text="a", range=[n_a - 0.5, -0.5], scaleanchor="x", constrain="domain", showgrid=False)
    return figure
