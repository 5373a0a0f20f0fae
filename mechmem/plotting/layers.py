"""Figures over layers: lines, bars, and the names of layers along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines
from mechmem.plotting.style import FAINT, INK, WITH_ALL_TRAIN, SplitStyle, interval, styled

_LEVEL = 88
"""Number of characters that fit in one line of 700 pixels; longer names are rotated, or plotly would drop some."""
TRAINED = SplitStyle("trained network", "#0072B2", "circle", "solid")
NETWORK_STYLES = {
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
_WITH_GAP, _UPPER, _LOWER = 600, [0.38, 1.0], [0.0, 0.28]


def short(layers: Sequence[str]) -> list[str]:
    """Return layers' names without the hook point's last part, e.g. "layers.0" for "layers.0.hook_hidden"."""
    cut = [name.rpartition(".")[0] if ".hook_" in name else name for name in layers]
    return cut if len(set(cut)) == len(cut) else list(layers)


def name_ticks(names: Sequence[str], first: int = 0) -> dict[str, Any]:
    """Return the settings of an axis that names layers at whole numbers from `first` on."""
    longest = max(map(len, names))
    turned = {"tickangle": -45} if (longest + 2) * len(names) > _LEVEL else {}
    return {"tickvals": list(range(first, first + len(names))), "ticktext": list(names), **turned}


def layers_figure(
    frame: pd.DataFrame,
    layers: Sequence[str],
    probe: str,
    split: str,
    gap: pd.DataFrame | None = None,
    *,
    inputs: str,
    output: str,
) -> go.Figure:
    """Draw accuracy against layer for the trained network and its controls, with horizontal reference lines.

    Args:
        frame: columns network ("trained", "untrained", "clean_labels", "none"), layer, accuracy, low, high, chosen.
        layers: the layers in their order, the inputs first.
        probe: name of the probe.
        split: split of the accuracies.
        gap: columns layer, gap, low, high, verdict, of the trained network against the untrained one; drawn below.
        inputs: name of the inputs in `layer`; they need no network.
        output: name in `layer` of the networks' own predictions.
    """
    inside = [layer for layer in layers if layer != inputs]
    place = {layer: number for number, layer in enumerate(inside, 1)}
    rows = frame.loc[frame["layer"].isin(inside)]
    drawn = pd.DataFrame({"x": rows["layer"].map(place), "series": rows["network"], "value": rows["accuracy"]})
    drawn[["low", "high"]] = rows[["low", "high"]]
    height = 380 if gap is None else _WITH_GAP
    title = f"accuracy of {probe},<br>{WITH_ALL_TRAIN[split].title} (share)"
    figure = lines(drawn, x_title="layer", y_title=title, styles=NETWORK_STYLES, height=height)
    ends = [0.6, len(inside) + 0.4]
    for layer, network, title, color, dash in (
        (inputs, "none", f"{probe} on the inputs alone", NETWORK_STYLES["none"].color, "dot"),
        (output, "trained", "the network's own output", INK, "longdash"),
        (output, "clean_labels", "output, true labels", NETWORK_STYLES["clean_labels"].color, "longdash"),
    ):
        level = frame.loc[(frame["layer"] == layer) & (frame["network"] == network), "accuracy"]
        if level.notna().any():
            y = [float(level.iloc[0])] * 2
            look = {"width": 2, "color": color, "dash": dash}
            figure.add_scatter(x=ends, y=y, mode="lines", name=f"{title}: {y[0]:.3f}", line=look)
    chosen = frame.loc[frame["chosen"].astype(bool), "layer"]
    if len(chosen):
        figure.add_annotation(
            x=place[chosen.iloc[0]], y=0, yref="y domain", yanchor="bottom", text="chosen by<br>cross-validation",
            showarrow=False, font={"size": 12}, bgcolor="rgba(255,255,255,0.8)",
        )  # fmt: skip
    figure.update_xaxes(name_ticks(short(inside), first=1), range=[0.5, len(inside) + 0.5])
    if gap is not None:
        _add_gap(figure, gap, place)
    return figure


def layer_lines(
    frame: pd.DataFrame, layers: Sequence[str], *, y_title: str, styles: Mapping[str, SplitStyle] = WITH_ALL_TRAIN
) -> go.Figure:
    """Draw one line per series over the layers.

    Args:
        frame: columns layer, series, value; optionally low, high and panel, as in `lines`.
        layers: the layers in their order.
        y_title: title of the y axis, with its unit.
        styles: style of each series by name.
    """
    place = {layer: number for number, layer in enumerate(layers, 1)}
    shown = frame.assign(x=[place[layer] for layer in frame["layer"]])
    figure = lines(shown, x_title="layer", y_title=y_title, styles=styles)
    ends = [0.7, len(layers) + 0.3]
    figure.update_xaxes(name_ticks(short(layers), first=1), range=ends)
    return figure


def depth_bars(frame: pd.DataFrame, places: Sequence[str], *, x_title: str, y_title: str) -> go.Figure:
    """Draw the splits' values as bars side by side at each depth.

    Args:
        frame: columns split, depth (numbered from 0), value, low, high.
        places: names of the depths, in order.
        x_title: title of the x axis.
        y_title: title of the y axis, with its unit.
    """
    figure = go.Figure()
    for split, style in WITH_ALL_TRAIN.items():
        rows = frame.loc[frame["split"] == split]
        if len(rows):
            figure.add_bar(
                x=rows["depth"],
                y=rows["value"],
                name=style.title,
                marker={"color": style.color},
                error_y=interval(rows, thickness=1.2, width=3, color=INK),
                hovertemplate="%{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
            )
    styled(figure, 400)
    figure.update_layout(barmode="group", bargap=0.25, showlegend=True)
    figure.update_xaxes(name_ticks(short(places)), title_text=x_title, showgrid=False)
    figure.update_yaxes(title_text=y_title, rangemode="tozero")
    return figure


def _add_gap(figure: go.Figure, gap: pd.DataFrame, place: Mapping[str, int]) -> None:
    """Draw the gap of each layer in a panel below, with the verdict as its mark."""
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
