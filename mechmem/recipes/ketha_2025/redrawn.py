"""How the paper's figures are redrawn."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import lines
from mechmem.recipes.ketha_2025.measured import (
    CLEAN_MASC,
    GIVEN_READOUT,
    LAST,
    LAST_MASC,
    MASC,
    NEIGHBOURS,
    TRUE_MASC,
    TRUE_READOUT,
)
from mechmem.reproduction.measures import curves, pooled

TITLES = {
    "test": "network",
    MASC: "MASC, given labels",
    f"{MASC}, best layer": "MASC, layer best on test",
    TRUE_MASC: "MASC, true labels",
    f"{MASC} on pixels": "MASC on pixels",
    f"{MASC} before training": "MASC before training",
    f"test of {NEIGHBOURS}": "20 neighbours on pixels",
    "peak test": "network at its best on test",
    CLEAN_MASC: "MASC, clean-trained network",
    f"test of {TRUE_READOUT}": "readout refitted, true labels",
    f"test of {GIVEN_READOUT}": "readout refitted, given labels",
    f"test of {TRUE_READOUT.replace(LAST, 'inputs')}": "the same on pixels",
}


def noise_curve(*quantities: str) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw these quantities against the share of corrupted labels, which each arm's runs measure too."""

    def draw(table: pd.DataFrame) -> go.Figure:
        found = pooled(table, of_curves=False)
        known = found.loc[found["quantity"] == "xi"]
        xi = dict(zip(known["arm"], known["value"], strict=True))
        found["x"] = [xi[arm] for arm in found["arm"]]
        # Of the clean-trained network one arm measures a whole curve.
        every = pd.concat([found, pooled(table, of_curves=True)])
        parts = [every.loc[every["quantity"] == quantity].sort_values("x") for quantity in quantities]
        drawn = pd.concat(parts)
        drawn = drawn.assign(series=[TITLES[quantity] for quantity in drawn["quantity"]])
        return lines(drawn, x_title="share of corrupted labels ξ", y_title="test accuracy", height=440)

    return draw


def by_layer(*titles: str) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw test accuracy by layer, a panel per arm."""
    series = {f"{title}, by layer": title for title in titles}
    return lambda table: curves(table, series, x_title="layer", y_title="test accuracy")


def training(table: pd.DataFrame) -> go.Figure:
    """Draw accuracies over training, a panel per arm."""
    titles = {"train clean": "train clean", "train noisy": "train noisy"}
    titles |= {"network": "network, test", LAST_MASC: f"{LAST_MASC}, test"}
    series = {f"{name} during training": title for name, title in titles.items()}
    return curves(table, series, x_title="training step (log scale)", log_x=True)
