"""Common style of all figures.

The four splits have one palette everywhere (Okabe and Ito's, which is safe for colour-blind readers), with a symbol and
a dash for each colour. Controls are open and grey, so that they are not mistaken for the network's own figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

INK, FAINT, GRID = "#222222", "#6b6b6b", "#e3e3e3"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
LEFT_OF_ONE = 0.5
"""Position of zero on a log axis of steps."""


@dataclasses.dataclass(frozen=True)
class SplitStyle:
    """Style of a series, the same in every figure.

    Attributes:
        title: name in the legend.
        color: colour.
        symbol: marker symbol.
        dash: line dash.
    """

    title: str
    color: str
    symbol: str
    dash: str


SPLIT_STYLES: Mapping[str, SplitStyle] = {
    "train_clean": SplitStyle("train, clean", "#0072B2", "square", "dash"),
    "train_noisy": SplitStyle("train, noisy (given labels)", "#D55E00", "diamond", "dashdot"),
    "train_noisy_true": SplitStyle("train, noisy (true labels)", "#CC79A7", "triangle-up", "dot"),
    "test": SplitStyle("test", "#009E73", "circle", "solid"),
    "test_in_group": SplitStyle("test, nonzero", "#56B4E9", "cross", "longdash"),
}
"""The four splits in their usual order, and the test inputs without a factor of 0."""
WITH_ALL_TRAIN: Mapping[str, SplitStyle] = {
    "train": SplitStyle("train, all (given labels)", INK, "cross", "longdash"),
    **SPLIT_STYLES,
}
"""The splits, and before them all training examples for when wrong labels are not told apart."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CLEAR = {"bgcolor": "rgba(0,0,0,0)"}
"""A legend with a background would hide the upper half of the topmost tick label beside it."""


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Apply the common style to a figure; legends are above the data, never over it."""
    figure.update_layout(
        # An empty template keeps plotly's default one (7 kB) out of every figure's file.
        template=go.layout.Template(),
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 64, "r": 24, "t": 64, "b": 56},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom"} | _CLEAR,
    )
    axis = {"gridcolor": GRID, "zeroline": False, "ticks": "outside", "automargin": True}
    title = {"font": {"size": 13}, "standoff": 10}
    figure.update_xaxes(**axis, title=title)
    figure.update_yaxes(**axis, title=title)
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def layout_of(figure: go.Figure) -> Any:
    """Return a figure's layout; type checkers know nothing of its attributes."""
    return figure.layout


def interval(rows: pd.DataFrame, **look: Any) -> dict[str, Any]:
    """Error bars from columns value, low, high; none if an end is not finite."""
    value, low, high = (rows[key].to_numpy(float) for key in ("value", "low", "high"))
    drawn = np.isfinite(low) & np.isfinite(high)
    return {"array": np.where(drawn, high - value, 0), "arrayminus": np.where(drawn, value - low, 0), **look}


def add_chance(figure: go.Figure, chance: float, **line: list[float]) -> None:
    """Add a dotted line for the accuracy of a blind guess, named in the legend."""
    look = {"color": INK, "width": 1, "dash": "dot"}
    figure.add_scatter(**line, mode="lines", line=look, name=f"chance ({chance:.1%})", hoverinfo="skip")


def translucent(color: str, opacity: float) -> str:
    """Return a colour "#rrggbb" with an opacity from 0 to 1."""
    return f"rgba({','.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))},{opacity})"


def power_of_ten(exponent: int) -> str:
    """Write 10 to a whole power with raised digits, which stay as large as other text, unlike HTML's."""
    return f"10{str(exponent).translate(_RAISED)}"


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Return the look of a logarithmic axis for such values, whose numbers are all written out, in one size."""
    positive = [value for value in values if value > 0 and np.isfinite(value)]
    decades = np.log10(max(positive) / min(positive)) if positive else 0.0
    return {"type": "log", "tickformat": "~g", "dtick": "D2" if decades < 2 else 1}


def log_steps(figure: go.Figure, top: float) -> None:
    """Make the x axes logarithmic, with ticks at powers of ten up to `top` and at 0, placed left of 1."""
    powers = 10 ** np.arange(len(str(int(top))))
    ticks = {"tickvals": [LEFT_OF_ONE, *powers.tolist()], "ticktext": ["0", *(f"{power:,}" for power in powers)]}
    figure.update_xaxes(type="log", **ticks)
