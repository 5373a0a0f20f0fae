"""Progress measures of one network, and over a run with the boundaries of its phases."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.lines import PALETTE, plain_style
from mechmem.plotting.logits import add_losses
from mechmem.plotting.style import FAINT, LEFT_OF_ONE, WITH_ALL_TRAIN, interval, log_axis, log_steps, styled

SHADES = ("#eef4fa", "#fdf1e7", "#ebf6f2")
"""Background colours of the phases, in their order."""
MATRICES = {
    "embedding": "embedding",
    "embedding_a": "embedding<br>of a",
    "embedding_b": "embedding<br>of b",
    "readout": "readout",
    "neuron_logits": "neurons<br>to logits",
}


def measures_figure(
    losses: pd.DataFrame,
    gini: Mapping[str, float],
    random_gini: Mapping[str, tuple[float, float, float]],
    n_key: int,
) -> go.Figure:
    """Draw the losses of the three sets of logits by split, and the Gini coefficients beside those of random matrices.

    Args:
        losses: columns split, logits ("network", "restricted", "excluded"), value, low, high.
        gini: Gini coefficient by matrix.
        random_gini: value, low and high of random matrices, by matrix.
        n_key: number of key frequencies.
    """
    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.13)
    keys = f"{n_key} frequenc" + ("y" if n_key == 1 else "ies")
    names = ["the network", f"restricted<br>to {keys}", "excluded<br>(without)"]
    add_losses(figure, losses, names, WITH_ALL_TRAIN, row=1, col=1)
    found = pd.DataFrame([random_gini[name] for name in gini], columns=["value", "low", "high"])
    place = np.arange(len(gini))
    look: dict[str, Any] = {"mode": "markers", "row": 1, "col": 2}
    hover = "%{y:.3f}<extra>%{fullData.name}</extra>"
    random = {"symbol": "circle-open", "size": 8, "color": FAINT}
    bars = interval(found, thickness=1.2, width=4, color=FAINT)
    figure.add_scatter(
        x=place, y=found["value"], name="random matrices", marker=random, error_y=bars, hovertemplate=hover, **look
    )
    own = {"symbol": "diamond", "size": 10, "color": PALETTE[0]}
    figure.add_scatter(x=place, y=list(gini.values()), name="Gini", marker=own, hovertemplate=hover, **look)
    styled(figure, 420)
    titles = [MATRICES.get(name, name) for name in gini]
    figure.update_xaxes(tickvals=place, ticktext=titles, range=[-0.5, len(gini) - 0.5], showgrid=False, col=2)
    figure.update_xaxes(tickangle=0, tickfont={"size": 12}, col=2)
    figure.update_yaxes(title_text="Gini of wave norms", range=[0, 1.02], col=2)
    return figure.update_layout(legend={"y": 1.02}, margin={"t": 96})


def phases_figure(
    curves: pd.DataFrame,
    panels: Mapping[str, str],
    spans: Sequence[tuple[str, float, float]],
    notes: Sequence[str],
) -> go.Figure:
    """Draw measures over log steps in stacked panels, with the phases as background colours.

    Args:
        curves: columns panel, x (steps), series, value.
        panels: axis title of each panel in `curves`, from the top down; titles that end in "(nats)" give a logarithmic
            axis.
        spans: name, first and last step of each phase.
        notes: reasons why phases are missing, one sentence each, written below the panels.
    """
    heights = [2.0 if title.endswith("(nats)") else 1.0 for title in panels.values()]
    total = 140 + int(150 * sum(heights))
    figure = make_subplots(len(panels), 1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.035)
    seen: list[str] = []
    for row, (panel, title) in enumerate(panels.items(), 1):
        rows = curves.loc[curves["panel"] == panel]
        for name in dict.fromkeys(rows["series"]):
            part = rows.loc[rows["series"] == name]
            seen += [] if name in seen else [name]
            style = plain_style(str(name), seen.index(name))
            steps = part["x"].to_numpy(float)
            figure.add_scatter(
                x=np.where(steps == 0, LEFT_OF_ONE, steps),
                y=part["value"].to_numpy(float),
                customdata=steps,
                mode="lines+markers",
                name=str(name),
                showlegend=rows["series"].nunique() > 1,
                legend="legend" if row == 1 else f"legend{row}",
                line={"color": style.color, "dash": style.dash, "width": 2},
                marker={"symbol": style.symbol, "size": 4},
                hovertemplate="step %{customdata:,}: %{y:.3g}<extra>%{fullData.name}</extra>",
                row=row,
                col=1,
            )
        look = log_axis(rows["value"]) if title.endswith("(nats)") else {}
        figure.update_yaxes(title_text=title, **look, row=row, col=1)
    styled(figure, total)
    _phases(figure, spans, len(panels))
    top = float(curves["x"].to_numpy(float).max())
    log_steps(figure, top)
    figure.update_xaxes(range=[np.log10(LEFT_OF_ONE * 0.9), np.log10(top * 1.1)])
    figure.update_xaxes(title_text="training step (log scale)", row=len(panels))
    _legends(figure, len(panels))
    _write_below(figure, notes)
    return figure


def _phases(figure: go.Figure, spans: Sequence[tuple[str, float, float]], rows: int) -> None:
    for place, (name, first, last) in enumerate(spans):
        x0, x1 = (max(float(step), LEFT_OF_ONE) for step in (first, last))
        for row in range(1, rows + 1):
            ground = {"fillcolor": SHADES[place % len(SHADES)], "line": {"width": 0}, "layer": "below"}
            axes = {"xref": f"x{row if row > 1 else ''}", "yref": f"y{row if row > 1 else ''} domain"}
            figure.add_shape(type="rect", x0=x0, x1=x1, y0=0, y1=1, **axes, **ground)
        middle = (np.log10(x0) + np.log10(x1)) / 2
        figure.add_annotation(
            # On two alternating levels, because short phases are close together on a log axis.
            yshift=15 * (place % 2),
            x=middle,
            y=1,
            xref="x",
            yref="paper",
            yanchor="bottom",
            text=f"<b>{name}</b>",
            showarrow=False,
        )


def _legends(figure: go.Figure, rows: int) -> None:
    """Place each panel's legend beside it, since inside it would cover curves."""
    layout: Any = figure.layout
    for row in range(1, rows + 1):
        axis = layout["yaxis" if row == 1 else f"yaxis{row}"]
        place = {"x": 1.01, "xanchor": "left", "y": axis.domain[1], "yanchor": "top", "orientation": "v"}
        figure.update_layout({"legend" if row == 1 else f"legend{row}": place})
    figure.update_layout(margin={"r": 148})


def _write_below(figure: go.Figure, notes: Sequence[str]) -> None:
    lines = [line for note in notes for line in textwrap.wrap(note, 100)]
    if not lines:
        return
    layout: Any = figure.layout
    below, room = 54, 18 * len(lines) + 18
    look = {"font": {"size": 12, "color": FAINT}, "align": "left", "showarrow": False}
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 0, "yref": "paper", "yanchor": "top", "yshift": -below}
    figure.add_annotation(text="<br>".join(lines), **look, **place)
    figure.update_layout(height=layout.height + room, margin={"b": layout.margin.b + room})
