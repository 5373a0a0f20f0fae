"""One neuron on one page: its waves, their spectra, its activation on the grid of inputs, and its effect."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.subplots import make_subplots

from mechmem.plotting.style import FAINT, INK, SPLIT_STYLES, SplitStyle, interval, styled

WAVE, FIT, KEY = "#0072B2", "#E69F00", "#D55E00"


@dataclasses.dataclass(frozen=True, eq=False)
class Wave:
    """One vector of a neuron.

    Attributes:
        title: its heading.
        values: the vector, one entry per position in the group.
        fitted: the cosine fitted to it.
        share: share of its energy at frequency 1, 2, ….
        outside: its entries on symbols outside the group.
    """

    title: str
    values: Float[np.ndarray, " place"]
    fitted: Float[np.ndarray, " place"]
    share: Float[np.ndarray, " freq"]
    outside: Float[np.ndarray, " symbol"]


def neuron_page(
    waves: Sequence[Wave],
    activation: Float[np.ndarray, "a b"] | None,
    effects: pd.DataFrame,
    *,
    title: str,
    key: int,
    symbols: Int[np.ndarray, " place"],
    axis: Int[np.ndarray, " symbol"],
    order: str,
    note: str = "",
    styles: Mapping[str, SplitStyle] = SPLIT_STYLES,
) -> go.Figure:
    """Draw waves, their spectra, the activation on the grid of inputs, and the effect of ablating the neuron.

    Args:
        waves: one to three vectors, one column each.
        activation: the neuron's activation, a downwards and b across, or None.
        effects: columns split, value, low, high: change of the mean margin in logits.
        title: heading of the page.
        key: the key frequency, marked in the spectra (0 for none).
        symbols: the symbol at each position in the group.
        axis: the symbol at each position along the sides of the grid.
        order: name of the order of the symbols, or "".
        note: reason why there are no effects, shown in their place.
        styles: styles of the splits.
    """
    columns = 3
    figure = make_subplots(
        3,
        columns,
        specs=[[{}] * columns, [{}] * columns, [{"colspan": 2}, None, {}]],
        row_heights=[0.25, 0.2, 0.55],
        subplot_titles=[
            *[wave.title for wave in waves],
            *[""] * (columns - len(waves)),
            *[""] * columns,
            "",
            "without the neuron",
        ],
        horizontal_spacing=0.1,
        vertical_spacing=0.115,
    )
    place = np.arange(len(symbols))
    for column, wave in enumerate(waves, 1):
        at: dict[str, Any] = {"row": 1, "col": column}
        shown = {"showlegend": column == 1, "x": place}
        marks = {"mode": "markers", "marker": {"size": 4, "color": WAVE}, "customdata": symbols}
        hover = "symbol %{customdata}: %{y:.4g}<extra></extra>"
        fit = {"mode": "lines", "line": {"color": FIT, "width": 1.5}, "hoverinfo": "skip"}
        figure.add_scatter(y=wave.fitted, name="cosine at the key frequency", **fit, **shown, **at)
        figure.add_scatter(y=wave.values, name="weight", hovertemplate=hover, **marks, **shown, **at)
        if len(wave.outside):
            open_marks = {"symbol": "diamond-open", "size": 8, "color": WAVE}
            figure.add_scatter(
                x=-2 - np.arange(len(wave.outside)),
                y=wave.outside,
                mode="markers",
                marker=open_marks,
                name="symbol outside the group",
                hovertemplate="symbol outside the group: %{y:.4g}<extra></extra>",
                showlegend=column == 1,
                **at,
            )
        frequency = np.arange(1, len(wave.share) + 1)
        color = np.where(frequency == key, KEY, FAINT)
        hover = "frequency %{x}: %{y:.3f}<extra></extra>"
        figure.add_bar(
            x=frequency, y=wave.share, marker={"color": color}, hovertemplate=hover, showlegend=False, row=2, col=column
        )
    if activation is not None:
        figure.add_heatmap(
            z=activation.astype(np.float32),
            customdata=np.stack(np.broadcast_arrays(axis[:, None], axis[None, :]), -1),
            hovertemplate="a = %{customdata[0]}, b = %{customdata[1]}<br>activation %{z:.4g}<extra></extra>",
            coloraxis="coloraxis",
            row=3,
            col=1,
        )
    _add_effects(figure, effects, note, styles)
    styled(figure, 780)
    _label(figure, order, len(waves), activation is not None)
    heading = {"text": title, "x": 0.01, "y": 0.965, "yanchor": "top", "font": {"size": 15}}
    figure.update_layout(title=heading, legend={"y": 1.035}, margin={"t": 128, "r": 16})
    bar = {"thickness": 10, "len": 0.44, "y": 0.0, "yanchor": "bottom", "x": 0.505, "xanchor": "left"}
    figure.update_layout(coloraxis={"colorscale": "Viridis", "colorbar": {**bar, "outlinewidth": 0}})
    return figure


def _add_effects(figure: go.Figure, effects: pd.DataFrame, note: str, styles: Mapping[str, SplitStyle]) -> None:
    place: dict[str, Any] = {"row": 3, "col": 3}
    found = effects.loc[np.isfinite(effects["value"].to_numpy(float))]
    for split in found["split"]:
        row = found.loc[found["split"] == split]
        style = styles.get(split, SplitStyle(split, INK, "hexagon", "solid"))
        figure.add_scatter(
            x=row["value"].to_numpy(float),
            y=[style.title.replace(" (", "<br>(")],
            mode="markers",
            marker={"color": style.color, "symbol": style.symbol, "size": 9},
            error_x=interval(row, thickness=1.2, width=3, color=style.color),
            hovertemplate="%{x:.4g} logits<extra>" + style.title + "</extra>",
            showlegend=False,
            **place,
        )
    if found.empty:
        text = "<br>".join(textwrap.wrap(note or "no split with known labels", 30))
        where = {"x": 0.5, "y": 0.5, "xref": "x domain", "yref": "y domain"}
        figure.add_annotation(text=text, showarrow=False, **where, **place)
        figure.update_xaxes(visible=False, **place)
        figure.update_yaxes(visible=False, **place)
        return
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dot"}, **place)
    figure.update_yaxes(autorange="reversed", **place)


def _label(figure: go.Figure, order: str, n_waves: int, grid: bool) -> None:
    """Name the axes; hide those of columns without a vector."""
    unit = f" ({order})" if order else ""
    figure.update_xaxes(title_text="logarithm of the symbol" if order else "symbol", row=1)
    figure.update_xaxes(title_text="frequency k", row=2)
    figure.update_yaxes(title_text="weight", row=1, col=1)
    figure.update_yaxes(title_text="share of energy", row=2, col=1)
    figure.update_yaxes(range=[0, 1.02], row=2)
    # Half the page, to leave room for the colour bar and the names of the splits.
    figure.update_xaxes(title_text=f"b{unit}", showgrid=False, domain=[0, 0.49], row=3, col=1)
    figure.update_yaxes(title_text=f"a{unit}", autorange="reversed", showgrid=False, row=3, col=1)
    figure.update_xaxes(title_text="margin change (logits)", row=3, col=3)
    figure.update_yaxes(tickfont={"size": 12}, title_text="", row=3, col=3)
    for column in range(n_waves + 1, 4):
        for row in (1, 2):
            figure.update_xaxes(visible=False, row=row, col=column)
            figure.update_yaxes(visible=False, row=row, col=column)
    if not grid:
        figure.update_xaxes(visible=False, row=3, col=1)
        figure.update_yaxes(visible=False, row=3, col=1)
        return
    place = {"x": 0.5, "y": 1, "xref": "x7 domain", "yref": "y7 domain", "xanchor": "center", "yanchor": "bottom"}
    figure.add_annotation(text="activation on the grid of inputs", showarrow=False, **place)
