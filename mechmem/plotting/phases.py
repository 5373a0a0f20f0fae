"""Phase diagrams, and lines over a setting: means over seeds, in a panel for each setting that varies besides."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.errors import ConfigError
from mechmem.plotting.lines import PALETTE, lines, means
from mechmem.plotting.style import styled

DECADES = 30
"""Ratio of the largest to the least value of a setting from which on its axis is logarithmic."""
MOST_PANELS = 16
"""Most panels in a figure."""
WIDTH = 540
"""Width of all panels together, in pixels, where a figure has the least width that is foreseen."""
LETTER = 7.5
"""Width of a letter in pixels."""
MOST_TICKS = 10
"""Most labels along an axis of a panel."""


def phase_diagrams(
    cells: pd.DataFrame,
    rows: pd.DataFrame,
    x: str,
    y: str,
    panels: Sequence[str],
    *,
    title: str,
    bounds: tuple[float, float] | None,
) -> go.Figure:
    """Draw heatmaps of means over seeds, or of the word that most seeds have; cells that are not measured are grey.

    Args:
        cells: all cells, with the settings as columns.
        rows: the measured ones, with a column value: numbers, or words such as the names of phases.
        x: setting along the x axes.
        y: setting along the y axes.
        panels: settings whose combinations have a panel each.
        title: title of the colour bar.
        bounds: ends of the colour scale; by default the least and the largest mean.

    Raises:
        ConfigError: there are more panels, or more different words, than can be read.
    """
    xs, ys = _ordered(cells[x]), _ordered(cells[y])
    shown = _panels(cells, panels)
    columns = 1 if len(shown) == 1 else 2 if len(shown) in (2, 4) else 3
    count, wide = math.ceil(len(shown) / columns), WIDTH / columns
    # One setting per line where they are too long for one.
    titles = [_wrapped(title, wide, ", ") for title in shown]
    gaps: dict[str, Any] = {"horizontal_spacing": 0.06, "vertical_spacing": 0.5 / (count + 3)}
    figure = make_subplots(count, columns, subplot_titles=titles, shared_xaxes=True, shared_yaxes=True, **gaps)
    words = sorted({value for value in rows["value"] if isinstance(value, str)})
    drawn: list[np.ndarray] = []
    for place, chosen in enumerate(shown.values()):
        found = _matching(rows, chosen).dropna(subset=["value"])
        values: dict[tuple[str, str], list[Any]] = {}
        for a, b, value in zip(found[x], found[y], found["value"], strict=True):
            values.setdefault((_text(a), _text(b)), []).append(value)
        keys = [[(_text(a), _text(b)) for a in xs] for b in ys]
        told = [[_cell(values.get(key, []), words) for key in row] for row in keys]
        z = np.array([[value for value, _ in row] for row in told], dtype=float)
        details = [
            [(*key, said) for key, (_, said) in zip(*both, strict=True)] for both in zip(keys, told, strict=True)
        ]
        drawn.append(z)
        at = {"row": place // columns + 1, "col": place % columns + 1}
        hover = f"{x} %{{customdata[0]}}<br>{y} %{{customdata[1]}}<br>{title} %{{customdata[2]}}"
        look = {
            "coloraxis": "coloraxis",
            "hovertemplate": f"{hover}<extra></extra>",
            "customdata": np.array(details, dtype=object),
            "hoverongaps": False,
        }
        figure.add_heatmap(z=z, x=np.arange(len(xs)), y=np.arange(len(ys)), **look, **at)
    height = 420 if count == 1 else 110 + 240 * count
    styled(figure, height)
    scale = _legend(figure, words, height) if words else _colour_bar(drawn, title, bounds)
    figure.update_layout(coloraxis=scale, plot_bgcolor="#dcdcdc")
    # With a range, cells without a value at the edges are shown too.
    figure.update_xaxes(**_ticks(xs, wide), range=[-0.5, len(xs) - 0.5], showgrid=False)
    figure.update_yaxes(**_ticks(ys), range=[-0.5, len(ys) - 0.5], showgrid=False)
    figure.update_xaxes(title_text=_words(x), row=count)
    for column in range(1, columns + 1):
        if (count - 1) * columns + column > len(shown):  # the last panel of this column is one row higher
            figure.update_xaxes(title_text=_words(x), showticklabels=True, row=count - 1, col=column)
    figure.update_yaxes(title_text=_words(y), col=1)
    return figure


def _cell(values: Sequence[Any], words: Sequence[str]) -> tuple[float, str]:
    """Return the colour of a cell, as a number, and what is said of it: the mean over seeds, or the commonest word."""
    if not values:
        return math.nan, ""
    if not words:
        return float(np.mean(values)), f"{np.mean(values):.3f} (n = {len(values)})"
    (word, count), *_ = Counter(sorted(values)).most_common()
    return words.index(word), f"{word} ({count} of {len(values)})"


def _colour_bar(drawn: Sequence[np.ndarray], title: str, bounds: tuple[float, float] | None) -> dict[str, Any]:
    finite = np.concatenate([z[np.isfinite(z)] for z in drawn]) if drawn else np.zeros(0)
    low, high = bounds or ((float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0))
    bar: dict[str, Any] = {"title": {"text": title, "side": "right", "font": {"size": 13}}, "thickness": 12}
    return {"colorscale": "Viridis", "cmin": low, "cmax": max(high, low + 1e-9), "colorbar": bar | {"outlinewidth": 0}}


def _legend(figure: go.Figure, words: Sequence[str], height: int) -> dict[str, Any]:
    """Add a legend with a colour for each word, and return the colour scale.

    Raises:
        ConfigError: there are more words than colours that can be told apart.
    """
    if len(words) > len(PALETTE):
        raise ConfigError(
            f"{len(words)} different words cannot be told apart by colour, {len(PALETTE)} can: use frame()"
        )
    for word, color in zip(words, PALETTE, strict=False):
        look = {"symbol": "square", "size": 12, "color": color}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=look, name=word)
    # Above the titles of the panels.
    figure.update_layout(legend_y=1 + 30 / (height - 140), margin_t=90)
    ends = [place / len(words) for place in range(len(words) + 1)]
    scale = [[end, color] for low, high, color in zip(ends, ends[1:], PALETTE, strict=False) for end in (low, high)]
    return {"colorscale": scale, "cmin": -0.5, "cmax": len(words) - 0.5, "showscale": False}


def lines_over(
    cells: pd.DataFrame,
    rows: pd.DataFrame,
    x: str,
    series: str,
    panels: Sequence[str],
    *,
    title: str,
    bounds: tuple[float, float] | None,
) -> go.Figure:
    """Draw means over seeds with 95 % Student intervals along a setting, one line per value of another.

    Args:
        cells: all cells, with the settings as columns.
        rows: the measured ones, with a column value.
        x: setting along the x axis.
        series: setting whose values have a line each, or "" for one line.
        panels: settings whose combinations have a panel each.
        title: title of the y axis.
        bounds: ends of the y axis, for an accuracy; by default the data's.
    """
    xs = _ordered(cells[x])
    numeric = all(map(_is_number, xs))
    shown = _panels(cells, panels)
    places = {_text(value): value if numeric else place for place, value in enumerate(xs)}
    rows = rows.dropna(subset=["value"])
    rows = rows.assign(x=[places[_text(value)] for value in rows[x]])
    parts = [
        _matching(rows, chosen | ({series: name} if series else {}))
        .sort_values("x")
        .assign(series=f"{_words(series)} {_text(name)}" if series else title, panel=panel)
        for panel, chosen in shown.items()
        for name in (_ordered(cells[series]) if series else [""])
    ]
    frame = means(pd.concat(parts, ignore_index=True), ["panel", "series", "x"])
    y_title = f"{title}<br>(mean, 95 % interval)" if np.isfinite(frame["low"].to_numpy()).any() else title
    frame = frame if panels else frame.drop(columns="panel")
    figure = lines(frame, x_title=_words(x), y_title=y_title, styles={})
    ticks = _ticks(xs, WIDTH / len(shown))
    if not numeric:
        figure.update_xaxes(**ticks, range=[-0.5, len(xs) - 0.5])
    elif min(xs) > 0 and max(xs) / min(xs) >= DECADES:
        ends, beside = np.log10([min(xs), max(xs)]), math.log10(max(xs) / min(xs)) / 5
        places = [xs[place] for place in ticks["tickvals"]]
        look: dict[str, Any] = ticks | {"tickvals": places, "range": [ends[0] - beside, ends[1] + beside]}
        figure.update_xaxes(type="log", **look)
    if bounds is not None:
        figure.update_yaxes(range=[bounds[0] - 0.04, bounds[1] + 0.04])
    return figure


def _panels(cells: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the values of each panel, by its title."""
    combinations = list(itertools.product(*(_ordered(cells[name]) for name in names)))
    if len(combinations) > MOST_PANELS:
        sizes = " × ".join(f"{name} {cells[name].nunique(dropna=False)}" for name in names)
        raise ConfigError(
            f"{sizes} would be {len(combinations)} panels, and {MOST_PANELS} can be read: draw a part of it"
        )
    found = {}
    for values in combinations:
        title = ", ".join(f"{_words(name)} {_text(value)}" for name, value in zip(names, values, strict=True))
        found[title] = dict(zip(names, values, strict=True))
    return found


def _matching(rows: pd.DataFrame, chosen: dict[str, Any]) -> pd.DataFrame:
    for name, value in chosen.items():
        rows = rows.loc[rows[name].map(_text) == _text(value)]
    return rows


def _ordered(column: Any) -> list[Any]:
    """Return the values of a column: numbers by size, everything else as it comes."""
    values = list(dict.fromkeys(column))
    return sorted(values) if pd.api.types.is_numeric_dtype(column) else values


def _ticks(values: Sequence[Any], wide: float = math.inf) -> dict[str, Any]:
    """Return as many labels as can be read along an axis of this width in pixels, with words in several lines."""
    texts = [_text(value) for value in values]
    if not all(map(_is_number, values)):
        texts = [_wrapped(text, wide / len(texts), " ") for text in texts]
    longest = max(len(line) for text in texts for line in text.split("<br>")) + 1
    fit = max(1, min(MOST_TICKS, wide // (LETTER * longest)) if wide < math.inf else MOST_TICKS)
    places = list(range(0, len(values), math.ceil(len(values) / fit)))
    return {"tickvals": places, "ticktext": [texts[place] for place in places], "tickangle": 0}


def _wrapped(text: str, wide: float, between: str) -> str:
    """Return a text in lines, broken at `between` where it is wider than that many pixels."""
    return text if wide == math.inf or len(text) * LETTER <= wide else text.replace(between, f"{between.rstrip()}<br>")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
