"""Right answers' logits against the distance between the operands, and how alike the operands' gradients are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from mechmem.plotting.lines import lines
from mechmem.plotting.panels import side_by_side
from mechmem.plotting.style import INK, SplitStyle, styled

_BINS = 50


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
        cosines: cosines in [−1, 1] by series; none of them, and the right panel is left out.
        styles: look of each series.
        marks: means that others found, by name, drawn as dotted lines on the right.
        x_title: what the distance is.
    """
    left = lines(logits, x_title=x_title, y_title="logit of the right answer", styles=styles, markers=False)
    found = {name: values[np.isfinite(values)] for name, values in cosines.items()}
    found = {name: values for name, values in found.items() if len(values)}
    if not found:
        return left
    edges = np.linspace(-1, 1, _BINS + 1)
    right = go.Figure()
    for name, values in found.items():
        style = styles[name]
        # Rounding takes cosines of equal vectors out of the range.
        share = np.histogram(values.clip(-1, 1), edges)[0] / len(values)
        right.add_scatter(
            x=np.repeat(edges, 2)[1:-1],
            # Each to its own peak: cosines that are all alike would flatten the others'.
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
