"""Values with intervals, one row per name, in panels side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.style import FAINT, INK, SPLITS, interval, styled

_LINES = (("dash", SPLITS["train_noisy"].color), ("dot", FAINT))


def dots(frame: pd.DataFrame, lines: Mapping[str, Mapping[str, float]], *, x_title: str) -> go.Figure:
    """Draw values as dots with horizontal intervals.

    Args:
        frame: columns row, panel, value, low, high; rows are drawn from the top in their order.
        lines: up to two vertical lines by name, each with its place in every panel.
        x_title: what stands below each panel's heading.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    rows = list(dict.fromkeys(frame["row"]))
    figure = make_subplots(1, len(panels), subplot_titles=panels, shared_yaxes=True, horizontal_spacing=0.04)
    for column, panel in enumerate(panels, 1):
        own = frame.loc[frame["panel"] == panel]
        error = interval(own, thickness=1.5, width=4, color=INK)
        figure.add_scatter(
            x=own["value"].to_numpy(float),
            y=own["row"],
            error_x=error,
            mode="markers",
            marker={"size": 9, "color": SPLITS["train_clean"].color, "line": {"color": "white", "width": 1}},
            name="value",
            showlegend=column == 1 and bool(lines),
            hovertemplate="%{y}: %{x:.3f}<extra>" + panel + "</extra>",
            row=1,
            col=column,
        )
        for (name, places), (dash, color) in zip(lines.items(), _LINES, strict=False):
            figure.add_scatter(
                x=[places[panel]] * 2,
                y=[rows[0], rows[-1]],
                mode="lines",
                line={"dash": dash, "color": color, "width": 1.8},
                name=name,
                showlegend=column == 1,
                hovertemplate=f"{name}: %{{x:.3f}}<extra>{panel}</extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=x_title, row=1, col=column)
    plot = 30 * max(3, len(rows))
    styled(figure, plot + 170)
    # Between the legend and the data stand the panels' titles.
    figure.update_layout(margin={"t": 96}, legend_y=1 + 30 / plot)
    return figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=rows, automargin=True)
