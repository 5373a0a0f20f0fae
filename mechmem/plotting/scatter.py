"""Angles against angles, side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.subplots import make_subplots

from mechmem.plotting.style import INK, SplitStyle, styled

SYMBOL_SIZE = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Angles:
    """One of several scatters of angles side by side.

    Attributes:
        title: its heading, which may take several lines.
        x: angles in [−π, π].
        y: angles in [−π, π].
        kind: position of each point's kind among the styles.
        label: number of each point, for the hover text.
    """

    title: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    kind: Int[np.ndarray, " point"]
    label: Int[np.ndarray, " point"]


def angle_scatter(
    panels: Sequence[Angles], styles: Mapping[str, SplitStyle], *, x_title: str, y_title: str, band: float
) -> go.Figure:
    """Draw angles against angles, with the diagonal and the band around it that counts as equal.

    Args:
        panels: the scatters; a point with an angle that is not finite is left out.
        styles: look of each kind of point, in the order of their positions; the first is drawn on top.
        x_title: what the angles along x are; ticks are in units of π.
        y_title: what the angles along y are.
        band: half-width of the band, in radians.
    """
    titles = [panel.title for panel in panels]
    figure = make_subplots(1, len(panels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.05)
    pi = math.pi
    for column, panel in enumerate(panels, 1):
        place = {"row": 1, "col": column}
        for shift in (-2 * pi, 0, 2 * pi):
            xs, ys = [-2 * pi, 2 * pi, 2 * pi, -2 * pi], np.array([-2 * pi, 2 * pi, 2 * pi, -2 * pi])
            edge = ys + shift + np.array([-band, -band, band, band])
            look = {"fill": "toself", "fillcolor": "rgba(0,0,0,0.07)", "line": {"width": 0}, "hoverinfo": "skip"}
            figure.add_scatter(x=xs, y=edge, mode="lines", showlegend=False, name="band", **look, **place)
            line = {"color": INK, "width": 1, "dash": "dot"}
            ends = {"x": [-2 * pi, 2 * pi], "y": [-2 * pi + shift, 2 * pi + shift], "name": "aligned"}
            first = column == 1 and shift == 0
            figure.add_scatter(**ends, mode="lines", line=line, hoverinfo="skip", showlegend=first, **place)
        finite = np.isfinite(panel.x) & np.isfinite(panel.y)
        for kind, style in reversed(list(enumerate(styles.values()))):
            rows = finite & (panel.kind == kind)
            elsewhere = any((other.kind == kind).any() for other in panels[: column - 1])
            if not rows.any():
                continue
            figure.add_scatter(
                x=panel.x[rows].astype(np.float32),
                y=panel.y[rows].astype(np.float32),
                customdata=panel.label[rows],
                mode="markers",
                marker={"color": style.color, "symbol": style.symbol, "size": SYMBOL_SIZE, "opacity": 0.75},
                name=style.title,
                legendgroup=style.title,
                legendrank=kind,
                showlegend=not elsewhere,
                hovertemplate="neuron %{customdata}<br>%{x:.2f}, %{y:.2f} rad<extra>%{fullData.name}</extra>",
                **place,
            )
    styled(figure, 470)
    ticks = {"tickvals": [-pi, -pi / 2, 0, pi / 2, pi], "ticktext": ["−π", "−π/2", "0", "π/2", "π"]}
    edge = [-1.04 * pi, 1.04 * pi]
    figure.update_xaxes(title_text=x_title, range=edge, **ticks)
    figure.update_yaxes(range=edge, **ticks)
    figure.update_yaxes(title_text=y_title, col=1)
    # Panel titles stand where the legend otherwise would.
    figure.update_layout(legend={"y": 1.13}, margin={"t": 118})
    return figure
