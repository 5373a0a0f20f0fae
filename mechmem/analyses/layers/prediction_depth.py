"""Prediction depth of examples: the layer from which on their neighbours vote for the network's prediction."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.results import Result
from mechmem.core.stats import bootstrap, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.layers.analysis import LayerAnalysis, some
from mechmem.layers.votes import Distance, layer_votes, settled_from
from mechmem.plotting.layers import depth_bars
from mechmem.tasks.splits import split_ids

if TYPE_CHECKING:
    import plotly.graph_objects as go

NOWHERE = "nowhere"
"""Name of the depth of examples for which even the last probe differs from the network's prediction."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class PredictionDepthResult(Result):
    """The prediction depth of each example.

    Attributes:
        layers: the depths: the inputs, the layers, and the network's probabilities.
        splits: the splits: "train_clean", "train_noisy" and "test", or "train" and "test" if the wrong labels are not
            known.
        ids: the examples, training ones first. Shape (example).
        split: number of each example's split. Shape (example).
        depth: the first depth, from 0 for the inputs, from which on every probe agrees with the network's prediction;
            the number of depths if the last does not. Shape (example).
        predicted: the network's prediction. Shape (example).
        k: number of neighbours that vote.
        neighbours: number of training examples they are drawn from.
        distance: "euclidean" or "cosine".
        note: what is missing and why, or "".
    """

    layers: tuple[str, ...]
    splits: tuple[str, ...]
    ids: Int[Tensor, " example"]
    split: Int[Tensor, " example"]
    depth: Int[Tensor, " example"]
    predicted: Int[Tensor, " example"]
    k: int
    neighbours: int
    distance: str
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per example: id, split, depth, predicted."""
        frame = pd.DataFrame({"id": self.ids.numpy(), "split": np.array(self.splits)[self.split.numpy()]})
        # A measured number, not the name of a class or an example.
        return frame.assign(depth=self.depth.numpy().astype(float), predicted=self.predicted.numpy())

    def summary(self) -> pd.DataFrame:
        """Return one row per split: split, n, depth (mean), low, high (95 % bootstrap interval), median, nowhere.

        `nowhere` is the share for which the last probe differs from the network's prediction; in the mean and the
        median their depth is the number of depths.
        """
        rows: list[dict[str, object]] = []
        for split, depth in self._depths():
            found = bootstrap(np.mean, [depth], seed=0) if len(depth) else None
            value, low, high = (np.nan,) * 3 if found is None else (found.value, found.low, found.high)
            middle, nowhere = (np.median(depth), np.mean(depth == len(self.layers))) if len(depth) else (np.nan,) * 2
            row = {"split": split, "n": len(depth), "depth": value, "low": low, "high": high}
            rows.append({**row, "median": middle, "nowhere": nowhere})
        return pd.DataFrame(rows)

    def shares(self) -> pd.DataFrame:
        """Return one row per split and depth: split, depth, place, value (share), low, high (Wilson interval), n."""
        rows: list[dict[str, object]] = []
        for split, depth in self._depths():
            for number, place in enumerate((*self.layers, NOWHERE)):
                found = proportion(depth == number)
                values = {} if found is None else dataclasses.asdict(found)
                rows.append({"split": split, "depth": number, "place": place, **values})
        return pd.DataFrame(rows, columns=["split", "depth", "place", "value", "low", "high", "n"])

    def plot(self) -> go.Figure:
        """Return the share of each split's examples at each depth."""
        shown = self.shares().dropna(subset=["value"])
        x_title = f"depth from which on {self.k} neighbours vote for the network's prediction"
        places = (*self.layers, NOWHERE)
        return depth_bars(shown, places, x_title=x_title, y_title="share of examples (95 % interval)")

    def _depths(self) -> list[tuple[str, Float[np.ndarray, " example"]]]:
        depth, split = self.depth.numpy().astype(float), self.split.numpy()
        return [(name, depth[split == number]) for number, name in enumerate(self.splits)]


@dataclasses.dataclass(frozen=True)
class PredictionDepth(LayerAnalysis):
    """Find the layer from which on nearest neighbours vote for the network's prediction, example by example.

    At the inputs, at every layer and at the network's probabilities the nearest training examples vote with their given
    labels; ties go to the lowest class. An example is settled at depth l if the votes at l and at every later depth are
    the network's prediction, correct or wrong. Memorized examples are settled late.

    A training example is not its own neighbour. Of equally distant neighbours those vote that scikit-learn finds first.
    Other implementations may resolve both kinds of ties differently, which moves the depth of examples with tied votes.

    Attributes:
        points: the layers between the inputs and the probabilities (see `LayerAnalysis`).
        pool: "none" or "mean" (see `LayerAnalysis`).
        k: number of neighbours that vote; all others, if there are fewer.
        distance: "euclidean", or "cosine" for the angle.
        limit: most training examples that vote and are measured, and most test examples, drawn with the seed; the cost
            grows with their product.
        seed: seed of the draw.
    """

    name: ClassVar[str] = "prediction_depth"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask"})
    cites: ClassVar[str] = "Baldock, Maennel & Neyshabur 2021, arXiv 2106.09647"

    k: int = 30
    distance: Distance = "euclidean"
    limit: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("number of neighbours", self.k, 1)
        check_choice("distance", self.distance, get_args(Distance))
        check_whole("limit", self.limit, 2)

    def __call__(self, subject: Subject) -> PredictionDepthResult:
        """Return the depths.

        Raises:
            MissingNeedError: no layer is named, or there is only one training example.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        points = self.asked(subject)
        task, splits = subject.task, split_ids(subject.task, "sources")
        train, test = (some(ids, self.limit, self.seed) for ids in (task.sources, task.test_ids))
        votes = layer_votes(subject, points, self.pool, train, test, self.k, self.distance)
        ids = torch.cat([train, test])
        split = torch.zeros(len(ids), dtype=torch.long)
        for number, members in enumerate(splits.values()):
            split[torch.isin(ids, members)] = number
        return PredictionDepthResult(
            layers=votes.places,
            splits=tuple(splits),
            ids=ids,
            split=split,
            depth=settled_from(votes.answers == votes.predicted),
            predicted=votes.predicted,
            k=votes.k,
            neighbours=len(train),
            distance=self.distance,
            note=self._note(subject, votes.k),
        )

    def _note(self, subject: Subject, k: int) -> str:
        notes = []
        if k < self.k:
            notes.append(f"only {k} neighbours vote, since there are no more")
        total = len(subject.task.sources), len(subject.task.test_ids)
        if max(total) > self.limit:
            notes.append(f"at most {self.limit} of {total[0]} training and {total[1]} test examples are measured")
        return "; ".join(notes)
