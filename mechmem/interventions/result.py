"""Result of `intervene`: logits, accuracies and losses under each intervention."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.results import Result
from mechmem.core.stats import wilson
from mechmem.core.storage import record
from mechmem.core.tables import Table
from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.style import SPLIT_STYLES
from mechmem.plotting.unit_grids import grid_of, unit_maps
from mechmem.plotting.units import MOST_ROWS, sorted_points
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Interventions(Result):
    """Logits, accuracy and loss of a network under each of several interventions.

    Attributes:
        edits: description of each intervention.
        sites: site of each, one row per edit: point, unit (its kind), position, head, channel, neuron.
        ids: the examples. Shape (example).
        n: number of these examples in each of the four splits (0 if it is empty or unknown). Shape (split).
        accuracy: share of correct predictions; NaN for a split without examples or with a logit that is not finite.
            Shape (edit, split).
        loss: mean cross-entropy in nats; NaN for a split without examples. Shape (edit, split).
        unedited_accuracy: accuracy of the unedited network. Shape (split).
        unedited_loss: loss of the unedited network. Shape (split).
        logits: logits under each edit, in the order of ids; None if they were not kept. Shape (edit, example, class).
        unedited: logits of the unedited network. Shape (example, class).
        note: remarks on how the edits were run, or "".
    """

    edits: tuple[str, ...]
    sites: Table
    ids: Int[Tensor, " example"]
    n: Int[Tensor, " split"]
    accuracy: Float[Tensor, "edit split"]
    loss: Float[Tensor, "edit split"]
    unedited_accuracy: Float[Tensor, " split"]
    unedited_loss: Float[Tensor, " split"]
    logits: Float[Tensor, "edit example class"] | None
    unedited: Float[Tensor, "example class"]
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per edit and split.

        Columns edit, point, unit ("neuron", "head", "channel", "position", or "" for all of a point), position, head,
        channel and neuron (its number, missing if the edit is not of a single one), split, n, accuracy, low and high
        (Wilson's 95 % interval over examples), change (of the accuracy, from the unedited network), loss and
        loss_change (nats).
        """
        edit, split = (axis.ravel() for axis in np.indices(self.accuracy.shape))
        frame = self.sites.frame().iloc[edit].reset_index(drop=True)
        frame.insert(0, "edit", np.array(self.edits, dtype=object)[edit])
        frame["split"] = np.array(SPLITS)[split]
        frame["n"] = self.n.numpy()[split]
        frame["accuracy"] = self.accuracy.numpy().ravel()
        frame["low"], frame["high"] = _intervals(frame)
        frame["change"] = frame["accuracy"] - self.unedited_accuracy.numpy()[split]
        frame["loss"] = self.loss.numpy().ravel()
        frame["loss_change"] = frame["loss"] - self.unedited_loss.numpy()[split]
        return frame

    def plot(self) -> go.Figure:
        """Return a figure of the four accuracies.

        Edits of the heads of several layers, or of the positions of several layers or heads, are a heatmap of the
        change; others are one row each below the unedited network, or beyond 40 edits points in the order of accuracy.
        """
        frame = self.to_frame().rename(columns={"edit": "name", "split": "series", "accuracy": "value"})
        frame = frame.loc[frame["n"] > 0]
        before: dict[str, float] = dict(zip(SPLITS, self.unedited_accuracy.tolist(), strict=True))
        if grid_of(self.sites.frame()) is not None:
            titles = {name: f"{SPLIT_STYLES[name].title}<br>({before[name]:.1%} unedited)" for name in SPLITS}
            changes = frame.drop(columns=["low", "high"]).assign(value=frame["change"])
            return unit_maps(changes, titles=titles, z_title="change of the accuracy")
        if len(self.edits) > MOST_ROWS:
            title = "accuracy (dotted: unedited)"
            return sorted_points(frame, before, y_title=title, y_range=(-0.03, 1.03), lowest_first=True)
        unedited = pd.DataFrame(
            {"name": "unedited", "series": SPLITS, "n": self.n.numpy(), "accuracy": list(before.values())}
        )
        unedited["low"], unedited["high"] = _intervals(unedited)
        unedited = unedited.rename(columns={"accuracy": "value"})
        rows = pd.concat([unedited, frame[list(unedited.columns)]], ignore_index=True)
        return dot_plot(rows.rename(columns={"name": "extractor"}))


def _intervals(frame: pd.DataFrame) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Return Wilson's interval of every accuracy; NaN where there is none."""
    counts = (frame["accuracy"].fillna(0) * frame["n"]).round().astype(int)
    pairs = list(zip(counts, frame["n"].where(frame["accuracy"].notna(), 0), strict=True))
    # Many edits change nothing, so the same counts recur.
    known = {(hits, n): wilson(int(hits), int(n)) for hits, n in set(pairs)}
    ends = [(np.nan, np.nan) if known[pair] is None else (known[pair].low, known[pair].high) for pair in pairs]  # type: ignore[union-attr]
    low, high = np.array(ends).T
    return low, high
