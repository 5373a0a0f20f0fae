"""The paper's figures, redrawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines, plain_style
from mechmem.plotting.style import SplitStyle
from mechmem.recipes.measures import STYLES, pooled
from mechmem.recipes.papers.ketha_2025.measured import (
    BEFORE,
    CLEAN_MASC,
    GIVEN_READOUT,
    LAST,
    LAST_MASC,
    MASC,
    NEIGHBOURS,
    ON_PIXELS,
    TRUE_MASC,
    TRUE_READOUT,
)

TITLES = {
    "test": "network",
    MASC: "MASC, given labels",
    f"{MASC}, best layer": "MASC, layer best on test",
    TRUE_MASC: "MASC, true labels",
    ON_PIXELS: "MASC on pixels",
    BEFORE: "MASC before training",
    f"test of {NEIGHBOURS}": "20 neighbours on pixels",
    "peak test": "network at its best on test",
    CLEAN_MASC: "MASC, clean-trained network",
    f"test of {TRUE_READOUT}": "readout refitted, true labels",
    f"test of {GIVEN_READOUT}": "readout refitted, given labels",
    f"test of {TRUE_READOUT.replace(LAST, 'inputs')}": "readout on pixels, true labels",
}


def noise_curve(*quantities: str) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw these quantities against the fraction of corrupted labels."""

    def draw(table: pd.DataFrame) -> go.Figure:
        found = pooled(table, of_curves=False)
        known = found.loc[found["quantity"] == "xi"]
        xi = dict(zip(known["arm"], known["value"], strict=True))
        found["x"] = [xi[arm] for arm in found["arm"]]
        # The arm of the clean-trained network measures a whole curve.
        every = pd.concat([found, pooled(table, of_curves=True)])
        parts = [every.loc[every["quantity"] == quantity].sort_values("x") for quantity in quantities]
        drawn = pd.concat(parts)
        drawn = drawn.assign(series=[TITLES[quantity] for quantity in drawn["quantity"]])
        return lines(drawn, x_title="fraction of corrupted labels ξ", y_title="test accuracy", height=440)

    return draw


def by_layer(*titles: str, levels: Sequence[str] = ()) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw test accuracy by layer, one panel per arm.

    Args:
        titles: probes measured by layer.
        levels: single figures, drawn as horizontal lines.
    """
    series = {f"{title}, by layer": TITLES.get(title, title) for title in titles}

    def draw(table: pd.DataFrame) -> go.Figure:
        measured = pooled(table, of_curves=True)
        measured = measured.loc[measured["quantity"].isin(list(series))]
        single = pooled(table, of_curves=False)
        layers = pd.DataFrame({"x": sorted(set(measured["x"]))})
        across = single.loc[single["quantity"].isin(list(levels))].drop(columns="x").merge(layers, how="cross")
        return _panels(pd.concat([measured, across]), series | {name: TITLES[name] for name in levels}, "layer")

    return draw


def training(table: pd.DataFrame) -> go.Figure:
    """Draw accuracies over training, one panel per arm."""
    titles = {"train clean": "train clean", "train noisy": "train noisy"}
    titles |= {"network": "test", LAST_MASC: f"{LAST_MASC}, test"}
    series = {f"{name} during training": title for name, title in titles.items()}
    found = pooled(table, of_curves=True)
    # The first colours of the palette belong to the splits.
    styles = {**STYLES, f"{LAST_MASC}, test": plain_style(f"{LAST_MASC}, test", 4)}
    return _panels(found.loc[found["quantity"].isin(list(series))], series, "training step (log scale)", styles)


def _panels(
    found: pd.DataFrame, series: Mapping[str, str], x_title: str, styles: Mapping[str, SplitStyle] | None = None
) -> go.Figure:
    drawn = found.assign(series=[series[quantity] for quantity in found["quantity"]])
    if len(set(drawn["arm"])) > 1:
        drawn = drawn.rename(columns={"arm": "panel"})
    steps = styles is not None
    y_title = "accuracy" if steps else "test accuracy"
    return lines(drawn, x_title=x_title, y_title=y_title, styles=styles or {}, log_x=steps, markers=not steps)
