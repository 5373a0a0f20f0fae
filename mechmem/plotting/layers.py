"""Accuracy of probes by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines
from mechmem.plotting.named_layers import name_ticks, short
from mechmem.plotting.style import FAINT, INK, SPLITS, SplitStyle, interval

TRAINED = SplitStyle("trained network", "#0072B2", "circle", "solid")
STYLES = {
    "trained": TRAINED,
    "untrained": SplitStyle("before training", "#6b6b6b", "pentagon-open", "dash"),
    "clean_labels": SplitStyle("trained on true labels", "#009E73", "diamond", "dashdot"),
    "none": SplitStyle("the inputs alone", "#E69F00", "square", "dot"),
}
VERDICTS = {
    "benign": SplitStyle("gap: benign", "#0072B2", "circle", "solid"),
    "malign": SplitStyle("gap: malign", "#D55E00", "x", "solid"),
    "undecided": SplitStyle("gap: undecided", FAINT, "circle-open", "solid"),
    "not fitted": SplitStyle("gap (noise not fitted)", FAINT, "diamond-open", "solid"),
    "no noise known": SplitStyle("gap (no noise known)", FAINT, "circle-open", "solid"),
}
INPUTS, OUTPUT = "inputs", "output"
_WITH_GAP, _UPPER, _LOWER = 600, [0.38, 1.0], [0.0, 0.28]


def layers_figure(
    frame: pd.DataFrame, layers: Sequence[str], probe: str, split: str, gap: pd.DataFrame | None = None
) -> go.Figure:
    """Draw accuracy against layer: the trained network, others beside it, and levels across.

    Args:
        frame: columns network ("trained", "untrained", "clean_labels", "none"), layer, accuracy, low, high, chosen; the
            layer "output" is a network's own answer, and "inputs" needs no network.
        layers: the layers in their order, the inputs first.
        probe: what the probe is called.
        split: which split the accuracies are of.
        gap: columns layer, gap, low, high, verdict, of the trained network against the untrained one; drawn below.
    """
    inside = [layer for layer in layers if layer != INPUTS]
    place = {layer: number for number, layer in enumerate(inside, 1)}
    rows = frame.loc[frame["layer"].isin(inside)]
    drawn = pd.DataFrame({"x": rows["layer"].map(place), "series": rows["network"], "value": rows["accuracy"]})
    drawn[["low", "high"]] = rows[["low", "high"]]
    height = 380 if gap is None else _WITH_GAP
    title = f"accuracy of {probe},<br>{SPLITS[split].title} (share)"
    figure = lines(drawn, x_title="layer", y_title=title, styles=STYLES, height=height)
    ends = [0.6, len(inside) + 0.4]
    for layer, network, title, look in (
        (INPUTS, "none", f"{probe} on the inputs alone", {"color": STYLES["none"].color, "dash": "dot"}),
        (OUTPUT, "trained", "the network's own output", {"color": INK, "dash": "longdash"}),
        (OUTPUT, "clean_labels", "output, true labels", {"color": STYLES["clean_labels"].color, "dash": "longdash"}),
    ):
        level = frame.loc[(frame["layer"] == layer) & (frame["network"] == network), "accuracy"]
        if level.notna().any():
            y = [float(level.iloc[0])] * 2
            figure.add_scatter(x=ends, y=y, mode="lines", name=f"{title}: {y[0]:.3f}", line={"width": 2, **look})
    chosen = frame.loc[frame["chosen"].astype(bool), "layer"]
    if len(chosen):
        figure.add_annotation(
            x=place[chosen.iloc[0]], y=0, yref="y domain", yanchor="bottom", text="chosen by<br>cross-validation",
            showarrow=False, font={"size": 11}, bgcolor="rgba(255,255,255,0.8)",
        )  # fmt: skip
    figure.update_xaxes(name_ticks(short(inside), first=1), range=[0.5, len(inside) + 0.5])
    if gap is not None:
        _add_gap(figure, gap, place)
    return figure


def _add_gap(figure: go.Figure, gap: pd.DataFrame, place: Mapping[str, int]) -> None:
    """Draw the gap of each layer below, with the verdict as its mark."""
    for verdict, style in VERDICTS.items():
        rows = gap.loc[(gap["verdict"] == verdict) & gap["gap"].notna()]
        if len(rows):
            figure.add_scatter(
                x=rows["layer"].map(place), y=rows["gap"], xaxis="x2", yaxis="y2", mode="markers", name=style.title,
                marker={"symbol": style.symbol, "color": style.color, "size": 8},
                error_y=interval(rows.rename(columns={"gap": "value"}), color=style.color, thickness=1.5, width=4),
                hovertemplate="%{y:+.3f}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    upper, right = (figure.layout[axis].to_plotly_json() for axis in ("xaxis", "yaxis"))
    below = {"title": {**right["title"], "text": "gap: trained −<br>before (share)"}, "domain": _LOWER, "anchor": "x2"}
    zero = {"zeroline": True, "zerolinecolor": INK, "zerolinewidth": 1}
    figure.update_layout(xaxis2={**upper, "anchor": "y2", "matches": "x"}, yaxis2={**right, **below, **zero})
    figure.update_xaxes(title_text=None, showticklabels=False, selector=0)
    figure.update_layout(yaxis={"domain": _UPPER})
