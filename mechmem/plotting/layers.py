"""Accuracy of probes by layer."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines
from mechmem.plotting.style import INK, SPLITS, SplitStyle

TRAINED = SplitStyle("trained network", "#0072B2", "circle", "solid")
STYLES = {
    "trained": TRAINED,
    "untrained": SplitStyle("before training", "#6b6b6b", "pentagon-open", "dash"),
    "none": SplitStyle("the inputs alone", "#E69F00", "square", "dot"),
}
INPUTS, OUTPUT = "inputs", "output"


def layers_figure(frame: pd.DataFrame, layers: Sequence[str], probe: str, split: str) -> go.Figure:
    """Draw accuracy against layer: the trained network, the same before training, and two levels across.

    Args:
        frame: columns network ("trained", "untrained", "none"), layer, accuracy, low, high, chosen; the layer "output"
            is the network's own answer, and "inputs" needs no network.
        layers: the layers in their order, the inputs first.
        probe: what the probe is called.
        split: which split the accuracies are of.
    """
    inside = [layer for layer in layers if layer != INPUTS]
    place = {layer: number for number, layer in enumerate(inside, 1)}
    rows = frame.loc[frame["layer"].isin(inside)]
    drawn = pd.DataFrame({"x": rows["layer"].map(place), "series": rows["network"], "value": rows["accuracy"]})
    drawn[["low", "high"]] = rows[["low", "high"]]
    figure = lines(drawn, x_title="layer", y_title=f"accuracy of {probe}, {SPLITS[split].title}", styles=STYLES)
    ends = [0.6, len(inside) + 0.4]
    for layer, title, look in (
        (INPUTS, f"{probe} on the inputs alone", {"color": STYLES["none"].color, "dash": "dot"}),
        (OUTPUT, "the network's own output", {"color": INK, "dash": "longdash"}),
    ):
        level = frame.loc[frame["layer"] == layer, "accuracy"]
        if level.notna().any():
            y = [float(level.iloc[0])] * 2
            figure.add_scatter(x=ends, y=y, mode="lines", name=f"{title}: {y[0]:.3f}", line={"width": 2, **look})
    chosen = frame.loc[frame["chosen"].astype(bool), "layer"]
    if len(chosen):
        figure.add_annotation(
            x=place[chosen.iloc[0]], y=0, yref="paper", yanchor="bottom", text="chosen by<br>cross-validation",
            showarrow=False, font={"size": 11},
        )  # fmt: skip
    figure.update_xaxes(tickvals=list(place.values()), ticktext=list(place), range=[0.5, len(inside) + 0.5])
    return figure
