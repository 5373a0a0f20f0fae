"""Contributions of named components, with a mark per split."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.style import FAINT, INK, SPLITS, interval, styled

SPREAD = 0.6
"""Width of a component's place over which the splits are set apart."""


def components_figure(
    frame: pd.DataFrame, titles: Mapping[str, str], note: str = "", *, x_title: str = ""
) -> go.Figure:
    """Draw mean contributions, components across, one panel per quantity under each other.

    Args:
        frame: columns quantity, split, component, value, low, high; "total" stands apart on the right.
        titles: axis title of each quantity, in the order of the panels.
        note: how the sum was taken, in a few words.
        x_title: what the components are, where their names do not say it.
    """
    figure = make_subplots(len(titles), 1, shared_xaxes=True, vertical_spacing=0.06)
    components = list(dict.fromkeys(frame["component"]))
    place = {name: position + (0.5 if name == "total" else 0) for position, name in enumerate(components)}
    present = [name for name in SPLITS if name in set(frame["split"])]
    for row, quantity in enumerate(titles, 1):
        for lane, split in enumerate(present):
            rows = frame.loc[(frame["quantity"] == quantity) & (frame["split"] == split)]
            style = SPLITS[split]
            shift = SPREAD * ((lane + 0.5) / len(present) - 0.5)
            figure.add_scatter(
                x=[place[name] + shift for name in rows["component"]],
                y=rows["value"].to_numpy(float),
                error_y=interval(rows, thickness=1.2, width=2, color=style.color),
                customdata=rows["component"],
                mode="markers",
                name=style.title,
                legendgroup=split,
                showlegend=row == 1,
                marker={"symbol": style.symbol, "size": 8, "color": style.color},
                hovertemplate="%{customdata}: %{y:.3f}<extra>" + style.title + "</extra>",
                row=row,
                col=1,
            )
    styled(figure, 160 + 230 * len(titles))
    for row, title in enumerate(titles.values(), 1):
        figure.update_yaxes(title_text=f"{title} (logits)", zeroline=True, zerolinecolor=INK, row=row, col=1)
    ends = [-0.6, max(place.values()) + 0.6]
    figure.update_xaxes(title_text=x_title, row=len(titles))
    figure.update_xaxes(tickvals=list(place.values()), ticktext=components, tickangle=-35, showgrid=False, range=ends)
    if "total" in place:
        apart = place["total"] - 0.75
        line = {"color": FAINT, "width": 1, "dash": "dot"}
        for row in range(1, len(titles) + 1):
            figure.add_vline(x=apart, line=line, row=row, col=1)  # pyright: ignore[reportArgumentType]
    text = {"text": note, "font": {"size": 11, "color": FAINT}, "showarrow": False}
    figure.add_annotation(x=1, xanchor="right", xref="paper", y=1, yanchor="bottom", yref="paper", **text)
    return figure.update_layout(margin={"t": 84}, legend={"y": 1.0 + 18 / (230 * len(titles))})
