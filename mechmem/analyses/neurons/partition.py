"""The network's generalizing and memorizing neurons, split by a score."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.config import check_fraction, check_whole
from mechmem.core.plugins import Analysis, named
from mechmem.core.results import Result
from mechmem.core.scores import NeuronScores, NeuronSet
from mechmem.core.stats import wilson
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.models.reading.forward import check_logits
from mechmem.neurons.ablate import ablate
from mechmem.neurons.pruning_curves import PruningCurves
from mechmem.plotting.lines import lines
from mechmem.scorecard.extractor import RAW, extractor
from mechmem.scorecard.pruned import pruned
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import Marks

if TYPE_CHECKING:
    import plotly.graph_objects as go

NETWORKS = ("f", "f^G", "f^R")
"""The whole network, its top neurons alone, and its bottom neurons alone."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class PartitionResult(Result):
    """A network split into generalizing and memorizing neurons.

    Attributes:
        top: the neurons of f^G, those with the highest scores.
        bottom: the neurons of f^R, those with the lowest scores; disjoint from `top`.
        chosen: for top and bottom, whether the size was chosen on the training accuracies (or given).
        curves: the four splits while neurons with the lowest scores are ablated first (leaving the top), and those with
            the highest first (leaving the bottom).
        extractor: name of the extractor that is applied to each network beside its raw logits.
        correct: number of correct predictions. Shape (network, readout, split): f, f^G, f^R; raw logits and extractor.
        n: number of examples of each of the four splits (0 where it is empty or not known). Shape (split).
    """

    top: NeuronSet
    bottom: NeuronSet
    chosen: tuple[bool, bool]
    curves: PruningCurves
    extractor: str
    correct: Int[Tensor, "network readout split"]
    n: Int[Tensor, " split"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per network, readout and split.

        Columns network, extractor, neurons, fraction, split, n, accuracy, and the ends low and high of its 95 %
        Wilson interval (NaN for a split without examples).
        """
        width = self.curves.width
        sizes = (width, len(self.top), len(self.bottom))
        rows = []
        for network, readout, split in np.ndindex(*self.correct.shape):
            found = wilson(int(self.correct[network, readout, split]), int(self.n[split]))
            figures = (found.value, found.low, found.high) if found else (np.nan,) * 3
            named = (NETWORKS[network], (RAW, self.extractor)[readout], sizes[network], sizes[network] / width)
            rows.append((*named, SPLITS[split], int(self.n[split]), *figures))
        names = ["network", "extractor", "neurons", "fraction", "split", "n", "accuracy", "low", "high"]
        return pd.DataFrame(rows, columns=pd.Index(names))

    def curve_frame(self) -> pd.DataFrame:
        """Return one row per network, share of neurons kept, and split.

        Columns network ("f^G" keeps the highest scores, "f^R" the lowest), kept (number of neurons), fraction, split,
        n, accuracy, loss.
        """
        found = self.curves.to_frame()
        kept = self.curves.width - found["removed"]
        named = ["f^G" if order == "low" else "f^R" for order in found["order"]]
        table = pd.DataFrame({"network": named, "kept": kept, "fraction": kept / self.curves.width})
        table[["split", "n", "accuracy", "loss"]] = found[["split", "n", "accuracy", "loss"]]
        return table.loc[kept > 0].reset_index(drop=True)

    def plot(self) -> go.Figure:
        """Return accuracy against the share of neurons kept, with a line at the size of each set."""
        found = self.curve_frame()
        cuts = [len(members) / self.curves.width for members in (self.top, self.bottom)]
        sizes = [f"{'chosen' if how else 'given'}: {cut:.0%}" for how, cut in zip(self.chosen, cuts, strict=True)]
        titles = {"f^G": f"f<sup>G</sup>: highest, {sizes[0]}", "f^R": f"f<sup>R</sup>: lowest, {sizes[1]}"}
        frame = found.assign(panel=[titles[network] for network in found["network"]])
        frame = frame.rename(columns={"fraction": "x", "split": "series", "accuracy": "value"})
        x_title = f"share of neurons kept, by {self.curves.score}"
        figure = lines(frame, x_title=x_title, y_title="accuracy", markers=False)
        for column, cut in enumerate(cuts, 1):
            look: dict[str, Any] = {"line_width": 1, "line_dash": "dot", "row": 1, "col": column}
            figure.add_vline(cut, **look)
        figure.update_yaxes(range=[-0.03, 1.03])
        return figure


@dataclasses.dataclass(frozen=True)
class Partition(Analysis):
    """Split a network into generalizing neurons f^G and memorizing neurons f^R (Liu & Lu 2026, algorithm 1).

    Neurons are ranked by a score; f^G keeps those with the highest scores, f^R those with the lowest, each with all
    other neurons' weights set to zero. The paper does not state the sizes. Here they are chosen on training accuracies
    alone, never on test: f^G is the share of neurons with the largest clean minus noisy accuracy (on given labels);
    then f^R, among the rest, the share with the largest noisy minus clean accuracy; ties go to the smallest share.

    Attributes:
        by: the score's name, e.g. "ipr(of=w)", the paper's for addition, or "strength".
        extractor: the extractor applied to each network beside its raw logits.
        fractions: number of evenly spaced shares of the neurons to try.
        top: share of the neurons in f^G; chosen if None.
        bottom: share of the neurons in f^R; chosen if None.
    """

    name: ClassVar[str] = "partition"
    needs: ClassVar[frozenset[str]] = frozenset({"role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022, algorithm 1"

    by: str = "ipr"
    extractor: str = "frequency"
    fractions: int = 40
    top: float | None = None
    bottom: float | None = None

    def __post_init__(self) -> None:
        named("neuron_scores", self.by)
        extractor(self.extractor)
        check_whole("fractions", self.fractions, 2)
        for setting, value in (("top", self.top), ("bottom", self.bottom)):
            if value is not None:
                check_fraction(setting, value)
        if self.top is not None and self.bottom is not None and self.top + self.bottom > 1:
            raise ConfigError(f"top and bottom would overlap: {self.top} + {self.bottom} is more than 1")

    def wants(self) -> frozenset[str]:
        """What the score and the extractor need, and the readout."""
        parts = (named("neuron_scores", self.by), *extractor(self.extractor).parts)
        return self.needs.union(*(part.wants() for part in parts))

    def told(self) -> frozenset[str]:
        """The knowledge that the score and the extractor use; the noise mask only if a size is chosen."""
        choosing = self.knows if self.top is None or self.bottom is None else frozenset()
        return choosing | named("neuron_scores", self.by).told() | extractor(self.extractor).knows

    def __call__(self, subject: Subject) -> PartitionResult:
        """Return the partition.

        Raises:
            MissingNeedError: the subject lacks something; or a size has to be chosen, and there are no wrong (or no
                correct) training labels to choose it on.
            ScoreError: a share of the neurons leaves an empty set, or the scores cannot rank neurons.
        """
        self.require(subject)
        scores = named("neuron_scores", self.by)(subject)
        assert isinstance(scores, NeuronScores)
        if len(scores.values) < 2:
            raise ScoreError("one neuron cannot be split into two sets")
        # Ranks have no ties: one order is the reverse of the other, so no neuron is in both sets.
        order = scores.order("low")
        ranks = dataclasses.replace(scores, values=torch.argsort(order).double())
        curves = ablate(subject, by=ranks, order=("low", "high"), points=self.fractions)
        top, bottom = self._sizes(curves)
        width = curves.width
        sets = [NeuronSet.of(part.tolist(), width, scores.point) for part in (order[width - top :], order[:bottom])]
        networks = [subject, *(pruned(subject, members) for members in sets)]
        correct, n = zip(*(_correct(each, name) for each in networks for name in (RAW, self.extractor)), strict=True)
        return PartitionResult(
            top=sets[0],
            bottom=sets[1],
            chosen=(self.top is None, self.bottom is None),
            curves=curves,
            extractor=extractor(self.extractor).name,
            correct=torch.stack(correct).reshape(3, 2, -1),
            n=n[0],
        )

    def _sizes(self, curves: PruningCurves) -> tuple[int, int]:
        """Return the numbers of neurons in f^G and f^R, given or chosen."""
        width = curves.width
        # At least one neuron must remain for the other set.
        reserved = 1 if self.bottom is None else _size(self.bottom, width)
        top = _best(curves, "low", width - reserved) if self.top is None else _size(self.top, width)
        bottom = _best(curves, "high", width - top) if self.bottom is None else reserved
        if top + bottom > width:
            raise ConfigError(f"top and bottom would overlap: {top} + {bottom} of {width} neurons")
        return top, bottom


def _size(fraction: float, width: int) -> int:
    """Return the number of neurons in a share."""
    count = round(fraction * width)
    if count == 0:
        raise ScoreError(f"a fraction of {fraction} of {width} neurons leaves an empty set")
    return count


def _best(curves: PruningCurves, order: str, most: int) -> int:
    """Return how many neurons to keep so that clean and noisy training accuracy lie furthest apart."""
    kept = curves.width - curves.removed
    clean, noisy = curves.accuracy[curves.orders.index(order), :, :2].unbind(1)
    gap = clean - noisy if order == "low" else noisy - clean
    if gap.isnan().any():
        raise MissingNeedError(
            "choosing the sizes needs correct and wrong training labels: give top and bottom instead"
        )
    allowed = (kept >= 1) & (kept <= most)
    if not allowed.any():
        raise ScoreError(f"none of the shares tried leaves 1 … {most} of {curves.width} neurons: raise fractions")
    best = gap[allowed].max()
    return int(kept[allowed][gap[allowed] == best].min())


def _correct(subject: Subject, name: str) -> tuple[Int[Tensor, " split"], Int[Tensor, " split"]]:
    """Return the numbers of correct predictions and of examples on the four splits."""
    task, predictor = subject.task, extractor(name)(subject)
    marks = Marks(task)
    scores = torch.cat([predictor(ids) for ids in (task.train_ids, task.test_ids)])
    check_logits(scores, marks.ids)
    return marks.right(scores.argmax(1)).sum(1), marks.n
