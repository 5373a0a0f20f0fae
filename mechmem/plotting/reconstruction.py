"""Accuracies against the number of modes kept above, losses of three reconstructions below."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.lines import lines
from mechmem.plotting.style import INK, SPLITS, interval, styled

_FAMILIES = {"diagonal": "modes of the rule, strongest first", "energy_ranked": "any modes, strongest first"}
_NAMED = ("network", "restricted", "excluded")


def reconstruction_figure(frame: pd.DataFrame, n_key: int, n_freq: int, chance: float) -> go.Figure:
    """Draw accuracy against modes for both families, and the losses of network, restricted and excluded logits.

    Args:
        frame: columns family, modes, split, accuracy, accuracy_low, accuracy_high, loss, loss_low, loss_high.
        n_key: number of key frequencies, marked on the axis.
        n_freq: number of frequencies.
        chance: accuracy of a blind guess.
    """
    curves = frame.loc[frame["family"].isin(list(_FAMILIES))]
    names = {"modes": "x", "split": "series", "accuracy": "value", "accuracy_low": "low", "accuracy_high": "high"}
    drawn = curves.rename(columns=names).assign(panel=[_FAMILIES[family] for family in curves["family"]])
    above = lines(drawn, x_title="modes kept", y_title="accuracy", chance=chance)
    titles = list(dict.fromkeys(drawn["panel"]))
    figure = make_subplots(
        2,
        2,
        specs=[[{}, {}], [{"colspan": 2}, None]],
        subplot_titles=titles,
        horizontal_spacing=0.08,
        vertical_spacing=0.17,
    )
    for column in (1, 2):
        for trace in above.select_traces(row=1, col=column):
            figure.add_trace(trace, row=1, col=column)
    positions = {name: place for place, name in enumerate(_NAMED)}
    present = [name for name in SPLITS if name in set(frame["split"])]
    for lane, split in enumerate(present):
        rows = frame.loc[frame["family"].isin(_NAMED) & (frame["split"] == split)]
        style = SPLITS[split]
        place = np.array([positions[family] for family in rows["family"]], dtype=float)
        bars = rows.rename(columns={"loss": "value", "loss_low": "low", "loss_high": "high"})
        figure.add_scatter(
            x=place + (lane - (len(present) - 1) / 2) * 0.12,
            y=rows["loss"].to_numpy(float),
            error_y=interval(bars, thickness=1.2, width=3, color=style.color),
            mode="markers",
            name=style.title,
            legendgroup=split,
            showlegend=False,
            marker={"symbol": style.symbol, "size": 9, "color": style.color},
            hovertemplate="%{y:.3f} nats<extra>" + style.title + "</extra>",
            row=2,
            col=1,
        )
    styled(figure, 720)
    figure.update_yaxes(range=[-0.03, 1.03], row=1)
    figure.update_yaxes(title_text="accuracy", row=1, col=1)
    figure.update_xaxes(title_text="modes kept", row=1)
    look = {"color": INK, "width": 1, "dash": "dash"}
    figure.add_scatter(x=[n_key] * 2, y=[0, 1], mode="lines", line=look, name="number of key frequencies", row=1, col=1)
    names_below = ["the network", f"restricted to<br>{n_key} of {n_freq} frequencies", "without them<br>(excluded)"]
    figure.update_xaxes(tickvals=[0, 1, 2], ticktext=names_below, range=[-0.5, 2.5], showgrid=False, row=2)
    figure.update_yaxes(title_text="cross-entropy (nats)", type="log", exponentformat="power", row=2)
    figure.update_layout(legend={"y": 1.06}, margin={"t": 110})
    return figure
