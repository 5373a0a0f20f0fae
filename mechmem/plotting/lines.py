"""Lines with bands, for anything that varies along one axis, e.g. accuracy over training and pruning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.special import stdtrit

from mechmem.plotting.style import INK, LEFT_OF_ONE, SPLIT_STYLES, SplitStyle, log_steps, styled, translucent

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""Okabe and Ito's colours, in the order of their assignment to series without their own style."""

_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "pentagon")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def plain_style(name: str, position: int) -> SplitStyle:
    """Return the style of a series without its own style."""
    kind = (values[position % len(values)] for values in (PALETTE, _SYMBOLS, _DASHES))
    return SplitStyle(name, *kind)


def means(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return means over rows (value) with 95 % Student intervals (low, high), which a single row has none of.

    Args:
        frame: a column value, and those of `by`.
        by: columns whose combinations have a mean each, in the order in which they come.
    """
    found = frame.groupby(list(by), sort=False, dropna=False)["value"].agg(["mean", "std", "count"]).reset_index()
    freedom = np.maximum(found["count"].to_numpy() - 1, 1)
    half = stdtrit(freedom, 0.975) * found["std"] / np.sqrt(found["count"].clip(lower=1))
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    return found.rename(columns={"mean": "value"})


def lines(
    frame: pd.DataFrame,
    *,
    x_title: str,
    y_title: str,
    styles: Mapping[str, SplitStyle] = SPLIT_STYLES,
    log_x: bool = False,
    chance: float | None = None,
    markers: bool = True,
    height: int = 380,
) -> go.Figure:
    """Draw one line per series, in one or several panels side by side.

    Args:
        frame: columns x, series, value; optionally low and high (drawn as a band if both are finite) and panel (its
            title). Values that are not finite, and series without finite values, are omitted.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
        styles: style of each series by name; others get a plain style in the order of their first row.
        log_x: whether the x axis is logarithmic, with 0 marked left of 1.
        chance: value of a blind guess, drawn as a dotted line.
        markers: whether each value has a mark.
        height: height of the figure in pixels.
    """
    panels = list(dict.fromkeys(frame["panel"])) if "panel" in frame else []
    panels = panels or [""]
    figure = make_subplots(1, len(panels), subplot_titles=panels, shared_yaxes=True, horizontal_spacing=0.03)
    found = frame.loc[np.isfinite(frame["value"].to_numpy(float))]
    present = list(dict.fromkeys(found["series"]))
    known = [name for name in styles if name in present]
    named = {name: styles[name] for name in known}
    for name in present:
        named.setdefault(name, plain_style(name, len(named) - len(known)))
    for column, panel in enumerate(panels, 1):
        rows = found.loc[found["panel"] == panel] if "panel" in frame else found
        for name, style in named.items():
            _add_line(figure, rows.loc[rows["series"] == name], name, style, column, log_x, markers)
        if chance is not None:
            x = _place(rows["x"].to_numpy(float), log_x)
            look = {"color": INK, "width": 1, "dash": "dot"}
            ends = [float(x.min(initial=1)), float(x.max(initial=1))]
            _add(figure, column, x=ends, y=[chance, chance], mode="lines", line=look, name=f"chance ({chance:.1%})")
    _show_once(figure)
    styled(figure, height + 24 * (len(panels) > 1))
    if log_x:
        log_steps(figure, float(frame["x"].to_numpy(float).max(initial=1)))
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, col=1)
    if "panel" in frame:
        # Panel titles take the usual place of the legend.
        figure.update_layout(legend={"y": 1.0 + 28 / height}, margin={"t": 96})
    return figure


def _place(x: np.ndarray, log_x: bool) -> np.ndarray:
    return np.where(x == 0, LEFT_OF_ONE, x) if log_x else x


def _add_line(
    figure: go.Figure, rows: pd.DataFrame, name: str, style: SplitStyle, column: int, log_x: bool, markers: bool
) -> None:
    if rows.empty:
        return
    shown, value = rows["x"].to_numpy(float), rows["value"].to_numpy(float)
    x = _place(shown, log_x)
    if {"low", "high"} <= set(rows.columns):
        low, high = rows["low"].to_numpy(float), rows["high"].to_numpy(float)
        drawn = np.isfinite(low) & np.isfinite(high)
        if drawn.any():
            outline = {"x": np.concatenate([x[drawn], x[drawn][::-1]]), "mode": "lines", "line": {"width": 0}}
            band = np.concatenate([high[drawn], low[drawn][::-1]])
            fill = translucent(style.color, 0.18)
            look = {"fill": "toself", "fillcolor": fill, "hoverinfo": "skip", "legendgroup": style.title}
            figure.add_scatter(**outline, **look, y=band, showlegend=False, name=name, row=1, col=column)
    _add(
        figure,
        column,
        x=x,
        y=value,
        customdata=shown,
        mode="lines+markers" if markers else "lines",
        name=style.title,
        line={"color": style.color, "dash": style.dash, "width": 2},
        marker={"symbol": style.symbol, "size": 5},
        hovertemplate="%{customdata:,}: %{y:.3f}<extra>%{fullData.name}</extra>",
    )


def _add(figure: go.Figure, column: int, **trace: object) -> None:
    figure.add_scatter(**trace, legendgroup=trace["name"], row=1, col=column)


def _show_once(figure: go.Figure) -> None:
    """Show each series only once in the legend."""
    seen: set[str] = set()

    def show(trace: go.Scatter) -> None:
        if trace.showlegend is not False:
            name = str(trace.name)
            trace.showlegend = name not in seen
            seen.add(name)

    figure.for_each_trace(show)
