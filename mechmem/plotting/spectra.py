"""Spectra over frequencies as bars, one panel under the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from mechmem.plotting.lines import PALETTE
from mechmem.plotting.style import FAINT, INK, styled

MANY = 24
"""Frequencies beyond which not each of them has its own tick."""


STEPS = (1, 2, 5, 10, 20, 50)
"""Distances between ticks of numbered frequencies."""


def numbered(labels: Sequence[str]) -> bool:
    """Tell whether frequencies are called by their numbers: else they are representations, and have no order."""
    return all(label.isdigit() for label in labels)


def frequency_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis of frequencies 1 … n: whole numbers, or the name of each representation."""
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
        threshold: the level above which a frequency is marked as key.
    """

    title: str
    norms: Float[np.ndarray, "freq kind"]
    mean: float
    threshold: float


def spectra(panels: Sequence[SpectrumPanel], kinds: Sequence[str], labels: Sequence[str]) -> go.Figure:
    """Draw norms at each frequency, one panel per matrix under each other.

    Args:
        panels: the spectra, all over the same frequencies.
        kinds: what the lines of a frequency are: cosine and sine, or one for all.
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
