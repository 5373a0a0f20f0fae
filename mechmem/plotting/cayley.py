"""Tables of a binary operation side by side, one colour per class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int
from plotly.subplots import make_subplots

from mechmem.plotting.style import styled

CYCLIC = [[0.0, "#23345f"], [0.25, "#4fa3d1"], [0.5, "#f0e08a"], [0.75, "#d9692a"], [1.0, "#23345f"]]
"""Colours of classes: a scale that ends where it begins, as the elements of a cyclic group do, and has no white."""


def tables(
    given: Mapping[str, Int[np.ndarray, "a b"]],
    arranged: Int[np.ndarray, "row column"] | None,
    title: str,
    classes: int,
) -> go.Figure:
    """Draw tables in the order of their symbols, and one in another order.

    Args:
        given: tables by title, a downwards and b across, classes in their usual order; −1 is blank.
        arranged: a table whose rows, columns and classes are positions in a group, or None.
        title: its title.
        classes: number of classes.
    """
    panels = [*given.items(), *([] if arranged is None else [(title, arranged)])]
    figure = make_subplots(1, len(panels), subplot_titles=[name for name, _ in panels], horizontal_spacing=0.1)
    for column, (name, table) in enumerate(panels, 1):
        last = arranged is not None and column == len(panels)
        words = ("row", "column", "place") if last else ("a", "b", "class")
        figure.add_heatmap(
            z=np.where(table < 0, np.nan, table).astype(np.float32),
            colorscale=CYCLIC,
            zmin=0,
            zmax=classes,  # where the scale begins again, so that the last class has a colour of its own
            showscale=column == 1,
            colorbar={"title": {"text": "class", "side": "right"}, "thickness": 12, "outlinewidth": 0},
            hovertemplate=f"{words[0]} %{{y}}, {words[1]} %{{x}}<br>{words[2]} %{{z}}<extra>{name}</extra>",
            row=1,
            col=column,
        )
        rows, columns = table.shape
        across, down = ("b, by its element", "a, by its element") if last else ("b", "a" if column == 1 else "")
        square = {"constrain": "domain", "showgrid": False, "zeroline": False}
        figure.update_xaxes(title_text=across, range=[-0.5, columns - 0.5], row=1, col=column, **square)
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(title_text=down, range=[rows - 0.5, -0.5], scaleanchor=anchor, row=1, col=column, **square)
    styled(figure, 330)
    figure.update_yaxes(title_standoff=4)
    return figure.update_layout(plot_bgcolor="#ffffff", margin={"t": 60, "r": 20})
