"""What interventions do to a network's answers: what `intervene` returns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.lines import lines
from mechmem.results import Result
from mechmem.stats import wilson
from mechmem.storage import record
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_ROWS = 40
"""Edits that are drawn a row each; more are drawn as lines."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Interventions(Result):
    """Logits, accuracy and loss of a network under every one of several interventions, each by itself.

    Attributes:
        edits: what each intervention does.
        ids: the examples it was run on. Shape (example).
        n: number of these examples in each of the four splits (0 where it is empty or not known). Shape (split).
        accuracy: share of right predictions; NaN for a split without examples. Shape (edit, split).
        loss: mean cross-entropy in nats; NaN for a split without examples. Shape (edit, split).
        unedited_accuracy: the same of the network as it is. Shape (split).
        unedited_loss: the same of the network as it is. Shape (split).
        logits: the edited networks' logits, in the order of ids; None where they were not to be kept. Shape (edit,
            example, class).
        unedited: those of the network as it is. Shape (example, class).
        note: what should be known about how it was done, or "".
    """

    edits: tuple[str, ...]
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

        Columns edit, split, n, accuracy, low and high (Wilson's 95 % interval over examples), change (of the accuracy,
        from the network as it is), loss and loss_change (nats).
        """
        edit, split = (axis.ravel() for axis in np.indices(self.accuracy.shape))
        frame = pd.DataFrame({"edit": np.array(self.edits, dtype=object)[edit], "split": np.array(SPLITS)[split]})
        frame["n"] = self.n.numpy()[split]
        frame["accuracy"] = self.accuracy.numpy().ravel()
        frame["low"], frame["high"] = _intervals(frame)
        frame["change"] = frame["accuracy"] - self.unedited_accuracy.numpy()[split]
        frame["loss"] = self.loss.numpy().ravel()
        frame["loss_change"] = frame["loss"] - self.unedited_loss.numpy()[split]
        return frame

    def plot(self) -> go.Figure:
        """Return the four accuracies: a row per edit below the network as it is, or lines where there are many."""
        if len(self.edits) > MOST_ROWS:
            number = np.arange(len(self.edits)).repeat(len(SPLITS))
            frame = self.to_frame().rename(columns={"split": "series", "accuracy": "value"})
            frame = frame.drop(columns=["low", "high"]).assign(x=number)
            figure = lines(frame, x_title="edit, in the order given", y_title="accuracy", markers=False)
            figure.update_yaxes(range=[-0.03, 1.03])
            return figure
        before = pd.DataFrame(
            {"edit": "as it is", "split": SPLITS, "n": self.n.numpy(), "accuracy": self.unedited_accuracy.numpy()}
        )
        before["low"], before["high"] = _intervals(before)
        frame = pd.concat([before, self.to_frame()], ignore_index=True)
        return dot_plot(frame.rename(columns={"edit": "extractor", "split": "series", "accuracy": "value"}))


def _intervals(frame: pd.DataFrame) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Return Wilson's interval of every accuracy; NaN where nothing was counted."""
    counts = (frame["accuracy"].fillna(0) * frame["n"]).round().astype(int)
    pairs = list(zip(counts, frame["n"], strict=True))
    # Many edits change nothing: the same count comes again and again.
    known = {(hits, n): wilson(int(hits), int(n)) for hits, n in set(pairs)}
    ends = [(np.nan, np.nan) if known[pair] is None else (known[pair].low, known[pair].high) for pair in pairs]  # type: ignore[union-attr]
    low, high = np.array(ends).T
    return low, high
