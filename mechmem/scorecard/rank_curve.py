"""Accuracy along the ranks of one weight matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.in_words import shown
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.stats import wilson
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, NotFiniteError
from mechmem.models.reading.low_rank import decomposed
from mechmem.plotting.lines import lines
from mechmem.scorecard.edited import Edited
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

POINTS = 40
"""Number of ranks measured by default, evenly spaced on a logarithmic axis."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class RankCurve(Result):
    """Accuracy while one weight matrix keeps fewer and fewer of its singular values, without retraining.

    Attributes:
        layer: the parameter.
        full: its full rank.
        ranks: number of singular values kept, in ascending order. Shape (point).
        n: number of examples of each of the four splits (0 if it is empty or unknown). Shape (split).
        correct: number of correct predictions; −1 for a split without examples, or with a logit that is not finite.
            Shape (point, split).
        n_train: number of training examples.
        fitted: share of the training examples that get the label given to them, correct or wrong; NaN with a logit that
            is not finite. Shape (point).
        values: the singular values, largest first, as root mean squares over the matrices of a stack. Shape (rank).
    """

    layer: str
    full: int
    ranks: Int[Tensor, " point"]
    n: Int[Tensor, " split"]
    correct: Int[Tensor, "point split"]
    n_train: int
    fitted: Float[Tensor, " point"]
    values: Float[Tensor, " rank"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per rank and split: rank, fraction, split, n, accuracy, low, high.

        A fifth split, "train", holds all training examples with the labels given to them. Intervals are Wilson's, 95 %.
        """
        rows = []
        for rank, correct, fitted in zip(self.ranks.tolist(), self.correct.tolist(), self.fitted.tolist(), strict=True):
            train = -1 if np.isnan(fitted) else round(fitted * self.n_train)
            counts = [*zip(SPLITS, self.n.tolist(), correct, strict=True), ("train", self.n_train, train)]
            for split, n, right in counts:
                found = wilson(right, n) if right >= 0 else None
                ends = (found.value, found.low, found.high) if found else (np.nan,) * 3
                rows.append((rank, rank / self.full, split, n, *ends))
        columns = pd.Index(["rank", "fraction", "split", "n", "accuracy", "low", "high"])
        return pd.DataFrame(rows, columns=columns)

    def knee(self) -> int:
        """Return the rank at the knee of the training accuracy, which uses no label but those given in training.

        It is the measured rank at which the share of training examples with the label given to them is highest above
        the straight line from the lowest rank to the highest; the largest such rank, and the highest rank if the curve
        is nowhere above that line.

        Raises:
            NotFiniteError: a training accuracy is not known.
        """
        if self.fitted.isnan().any():
            raise NotFiniteError("a logit of a training example is NaN or infinite, so the knee is not known")
        x, y = self.ranks.double(), self.fitted.double()
        if len(x) < 3:
            return int(x[-1])
        above = y - y[0] - (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
        best = (above >= above.max() - 1e-9).nonzero()[-1]
        return int(self.ranks[best])

    def plot(self) -> go.Figure:
        """Return a figure of the accuracies along the rank; the title of the axis names the knee."""
        found = self.to_frame().rename(columns={"rank": "x", "split": "series", "accuracy": "value"})
        knee = "" if self.fitted.isnan().any() else f"; knee of the training accuracy: {self.knee()}"
        title = f"rank of {self.layer}, of at most {self.full}{knee}"
        figure = lines(found, x_title=title, y_title="accuracy", log_x=True)
        figure.update_yaxes(range=[-0.03, 1.03])
        return figure


@checked
def rank_curve(
    subject: nn.Module | Subject,
    layer: str = "",
    ranks: Sequence[int | float] | None = None,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
) -> RankCurve:
    """Lower the rank of one weight matrix step by step, and measure the four splits along the way.

    At each rank the network is that of the surgery `low_rank(layer,rank)`; it runs on all examples once per rank. The
    result's `knee()` chooses a rank from the training examples alone.

        curve = mm.rank_curve(network)
        curve.plot()

    Args:
        subject: a subject, or a network.
        layer: the parameter's name; by default the role `readout`'s, or the last parameter with at least two axes.
        ranks: whole numbers of singular values to keep, or fractions of the full rank; by default 40 from 1 to the full
            rank, evenly spaced on a logarithmic axis.
        task: the network's task; only with a network.
        roles: the network's roles; by default its own.

    Raises:
        UnknownNameError: there is no such parameter; the message suggests the nearest.
        ConfigError: there is no rank, or one is not between 1 and the full rank.
        MissingNeedError: no parameter has two axes.
        NotFiniteError: a weight is NaN or infinite.
    """
    subject = subject_of(subject, task, roles)
    if ranks is not None and not len(ranks):
        raise ConfigError("ranks must be at least one rank, got none; leave it out for ranks from 1 to the full one")
    whole = decomposed(subject, layer)
    spaced = np.unique(np.geomspace(1, whole.full, POINTS).round().astype(int)).tolist()
    # Elements of arrays are numpy's or torch's numbers.
    if getattr(ranks, "ndim", 1) != 1:
        raise ConfigError(f"ranks must be a list of numbers, got {shown(ranks)}")
    asked = spaced if ranks is None else [getattr(rank, "item", lambda rank=rank: rank)() for rank in ranks]
    kept = sorted({whole.kept(rank) for rank in asked})
    measured = Edited(subject.task)
    for rank in kept:
        measured.add(whole.truncated(subject, rank))
    return RankCurve(
        whole.layer,
        whole.full,
        torch.tensor(kept),
        measured.n,
        measured.correct,
        measured.n_train,
        measured.fitted,
        whole.values.square().mean(0).sqrt(),
    )
