"""Figures over frequencies: spectra as bars, scatters of angles, and symmetry of logits and gradients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.subplots import make_subplots

from mechmem.plotting.layout import side_by_side
from mechmem.plotting.lines import PALETTE, lines
from mechmem.plotting.style import FAINT, INK, SplitStyle, styled

MANY = 24
"""Largest number of frequencies with one tick each."""
STEPS = (1, 2, 5, 10, 20, 50)
"""Distances between ticks of numbered frequencies."""
SYMBOL_SIZE = 5
_BINS = 50


def numbered(labels: Sequence[str]) -> bool:
    """Return whether frequencies are named by numbers; otherwise they are representations, which have no order."""
    return all(label.isdigit() for label in labels)


def frequency_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis of frequencies 1 … n, with numbers or names of representations as ticks."""
    if not numbered(labels):
        return {"tickvals": list(range(1, len(labels) + 1)), "ticktext": list(labels), "title_text": "representation"}
    step = next((step for step in STEPS if len(labels) <= 12 * step), STEPS[-1])
    return {"tick0": 0, "dtick": step, "title_text": "frequency k"}


@dataclasses.dataclass(frozen=True, eq=False)
class SpectrumPanel:
    """One of several spectra.

    Attributes:
        title: its heading.
        norms: one bar per frequency and kind of line.
        mean: root mean square over all lines.
        threshold: lower bound on the norm of a key frequency.
    """

    title: str
    norms: Float[np.ndarray, "freq kind"]
    mean: float
    threshold: float


def spectra(panels: Sequence[SpectrumPanel], kinds: Sequence[str], labels: Sequence[str]) -> go.Figure:
    """Draw norms at each frequency, in stacked panels, one per matrix.

    Args:
        panels: the spectra, all over the same frequencies.
        kinds: names of a frequency's lines: cosine and sine, or one for all.
        labels: names of the frequencies.
    """
    height = 190
    total = 64 + 56 + len(panels) * height
    figure = make_subplots(
        len(panels),
        1,
        shared_xaxes=True,
        vertical_spacing=46 / (total - 120) if len(panels) > 1 else 0,
        subplot_titles=[panel.title for panel in panels],
    )
    place = np.arange(1, len(labels) + 1)
    ends = np.array([0.4, len(labels) + 0.6])
    levels = (("key above this", "dash", INK), ("mean", "dot", FAINT))
    for row, panel in enumerate(panels, 1):
        for kind, (name, norms) in enumerate(zip(kinds, panel.norms.T, strict=True)):
            figure.add_bar(
                x=place,
                y=norms,
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                marker={"color": PALETTE[kind]},
                customdata=list(labels),
                hovertemplate=f"frequency %{{customdata}}: %{{y:.3g}}<extra>{name}</extra>",
                row=row,
                col=1,
            )
        for (name, dash, color), level in zip(levels, (panel.threshold, panel.mean), strict=True):
            look = {"color": color, "width": 1, "dash": dash}
            figure.add_scatter(
                x=ends,
                y=[level, level],
                mode="lines",
                line=look,
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                hoverinfo="skip",
                row=row,
                col=1,
            )
    styled(figure, total)
    figure.update_layout(barmode="group", bargap=0.2, legend={"y": 1.0 + 24 / (total - 120)}, margin={"t": 96})
    figure.update_annotations(x=0, xanchor="left")
    figure.update_yaxes(title_text="norm", rangemode="tozero")
    figure.update_xaxes(showgrid=False, range=ends.tolist())
    if len(labels) <= MANY:
        figure.update_xaxes(tickvals=place, ticktext=list(labels))
    figure.update_xaxes(title_text=frequency_axis(labels)["title_text"], row=len(panels))
    return figure


@dataclasses.dataclass(frozen=True, eq=False)
class Angles:
    """One of several scatters of angles side by side.

    Attributes:
        title: its heading, possibly of several lines.
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
        panels: the scatters; points with an angle that is not finite are omitted.
        styles: style of each kind of point, in the order of their positions; the first is drawn on top.
        x_title: title of the x axes; ticks are in units of π.
        y_title: title of the y axis.
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
    # Panel titles take the usual place of the legend.
    figure.update_layout(legend={"y": 1.13}, margin={"t": 118})
    return figure


def symmetry_figure(
    logits: pd.DataFrame,
    cosines: Mapping[str, Float[np.ndarray, " triple"]],
    styles: Mapping[str, SplitStyle],
    marks: Mapping[str, float],
    *,
    x_title: str,
) -> go.Figure:
    """Draw logits against distance on the left and the distribution of cosines on the right.

    Args:
        logits: columns x (the distance), series, value, low, high.
        cosines: cosines in [−1, 1] by series; without any, the right panel is omitted.
        styles: style of each series.
        marks: published means by name, drawn as dotted lines on the right.
        x_title: title of the distance axis.
    """
    left = lines(logits, x_title=x_title, y_title="logit of the correct answer", styles=styles, markers=False)
    found = {name: values[np.isfinite(values)] for name, values in cosines.items()}
    found = {name: values for name, values in found.items() if len(values)}
    if not found:
        return left
    edges = np.linspace(-1, 1, _BINS + 1)
    right = go.Figure()
    for name, values in found.items():
        style = styles[name]
        # Rounding can take cosines of equal vectors out of the range.
        share = np.histogram(values.clip(-1, 1), edges)[0] / len(values)
        right.add_scatter(
            x=np.repeat(edges, 2)[1:-1],
            # Relative to its own peak, because a series of nearly equal cosines would flatten the others.
            y=np.repeat(share / share.max(), 2),
            customdata=np.repeat(share, 2),
            mode="lines",
            line={"color": style.color, "width": 2, "dash": style.dash},
            name=style.title,
            hovertemplate="%{x:.2f}: %{customdata:.1%} of the triples<extra>%{fullData.name}</extra>",
        )
    for (name, value), dash in zip(marks.items(), ("dot", "longdashdot", "dash"), strict=False):
        line = {"color": INK, "width": 1, "dash": dash}
        hover = f"{value}<extra>{name}</extra>"
        right.add_scatter(x=[value, value], y=[0, 1], mode="lines", line=line, name=name, hovertemplate=hover)
    styled(right, 380)
    right.update_xaxes(title_text="cosine of the operands' gradients", range=[-1.05, 1.05])
    right.update_yaxes(title_text="triples, relative to the fullest bin", rangemode="tozero")
    figure = side_by_side([left, right], 460)
    return figure.update_layout(legend={"orientation": "v"}, margin={"t": 40 + 22 * (len(found) + len(marks))})
