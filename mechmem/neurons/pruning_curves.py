"""Pruning curves, the result of `ablate`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice, check_fraction
from mechmem.core.results import Result
from mechmem.core.stats import across_runs, wilson
from mechmem.core.storage import record
from mechmem.plotting.lines import lines
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

Order = Literal["low", "high", "random"]
_TITLES = {"low": "lowest first", "high": "highest first", "random": "random order"}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class PruningCurves(Result):
    """Accuracy and loss on the four splits while the neurons of one layer are ablated cumulatively, without retraining.

    Attributes:
        score: the score by which the neurons were ranked ("" with random orders only).
        point: the hook point that holds the neurons.
        value: replacement for a neuron's activation: "zero", "mean" or "resample".
        method: "algebra" (from the readout) or "hooks" (by running the network).
        orders: each curve's order: "low" (lowest score first), "high" or "random".
        draws: each curve's number among those of its order.
        removed: number of neurons ablated at each point. Shape (point).
        width: number of neurons of the layer.
        n: number of examples of each of the four splits (0 if it is empty or unknown). Shape (split).
        accuracy: share of correct predictions; NaN for a split without examples or with a logit that is not finite.
            Shape (curve, point, split).
        loss: mean cross-entropy in nats; NaN for a split without examples, or if losses were not asked for. Shape
            (curve, point, split).
        note: remarks on the measurement, or "".
        units: kind of the ablated units, called neurons above: "neuron", "channel" or "head".
    """

    score: str
    point: str
    value: str
    method: str
    orders: tuple[str, ...]
    draws: tuple[int, ...]
    removed: Int[Tensor, " point"]
    width: int
    n: Int[Tensor, " split"]
    accuracy: Float[Tensor, "curve point split"]
    loss: Float[Tensor, "curve point split"]
    note: str = ""
    units: str = "neuron"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per curve, point and split: order, draw, removed, fraction, split, n, accuracy, loss."""
        shape = self.accuracy.shape
        curve, point, split = (axis.ravel() for axis in np.indices(shape))
        removed = self.removed.numpy()[point]
        values = {
            "order": np.array(self.orders)[curve],
            "draw": np.array(self.draws)[curve],
            "removed": removed,
            "fraction": removed / self.width,
            "split": np.array(SPLITS)[split],
            "n": self.n.numpy()[split],
            "accuracy": self.accuracy.numpy().ravel(),
            "loss": self.loss.numpy().ravel(),
        }
        return pd.DataFrame(values)

    def at(self, order: Order, fraction: float) -> pd.DataFrame:
        """Return the four splits with this share of the neurons ablated (at the nearest measured point).

        Columns split, n, accuracy, low, high, loss, removed, fraction. The 95 % interval is Wilson's over examples
        for one curve, and Student's over draws, around their mean, for several.

        Raises:
            UnknownNameError: there is no curve of this order.
            ConfigError: the fraction is outside [0, 1].
        """
        check_choice("order of a pruning curve", order, dict.fromkeys(self.orders))
        check_fraction("fraction of neurons", fraction)
        point = int((self.removed - fraction * self.width).abs().argmin())
        curves = [curve for curve, name in enumerate(self.orders) if name == order]
        rows = []
        for split, name in enumerate(SPLITS):
            n, values = int(self.n[split]), self.accuracy[curves, point, split]
            several = across_runs(values.tolist()) if n and len(curves) > 1 else None
            found = several or (None if values.isnan().any() else wilson(round(float(values[0]) * n), n))
            ends = (found.value, found.low, found.high) if found else (np.nan,) * 3
            rows.append((name, n, *ends, float(self.loss[curves, point, split].mean())))
        frame = pd.DataFrame(rows, columns=pd.Index(["split", "n", "accuracy", "low", "high", "loss"]))
        removed = int(self.removed[point])
        return frame.assign(removed=removed, fraction=removed / self.width)

    def plot(self) -> go.Figure:
        """Return a figure, one panel per order; several random orders show as a mean with a band of their range."""
        keys = ["order", "fraction", "split"]
        found = self.to_frame().groupby(keys, sort=False)["accuracy"].agg(["mean", "min", "max"]).reset_index()
        count = {order: self.orders.count(order) for order in self.orders}
        found["panel"] = [
            _TITLES[order] + (f", range of {count[order]}" if count[order] > 1 else "") for order in found["order"]
        ]
        several = pd.Series([count[order] > 1 for order in found["order"]])
        found["low"], found["high"] = found["min"].where(several), found["max"].where(several)
        frame = found.rename(columns={"fraction": "x", "split": "series", "mean": "value"})
        figure = lines(frame, x_title=f"share of {self.units}s ablated", y_title="accuracy", markers=False)
        figure.update_yaxes(range=[-0.03, 1.03])
        for column, order in enumerate(count, 1):
            if order != "random":
                by = self.score.replace("(", "<br>(", 1)
                figure.update_xaxes(title_text=f"share of {self.units}s ablated,<br>by {by}", col=column)
        return figure
