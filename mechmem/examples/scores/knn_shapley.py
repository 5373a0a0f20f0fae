"""Shapley value of an example in a classifier by nearest neighbours."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.influence_score import InfluenceScore, places_in
from mechmem.layers.features import Pool, layer_features, layer_point
from mechmem.layers.probe import check_finite
from mechmem.math.attribution import knn_shapley
from mechmem.math.blocks import blocks

AT_ONCE = 2**22
"""Distances that are held at once."""


@dataclasses.dataclass(frozen=True)
class KnnShapley(InfluenceScore):
    """Score examples by their exact Shapley value in the votes of nearest neighbours on the other training examples.

    The value of a set of examples for a target is the share of the k votes of its nearest neighbours in the set for the
    target's given label. An example's score is its Shapley value, averaged over all other training examples as targets;
    a wrong label mostly votes against its neighbours, and has a negative one. Distances are Euclidean.

    A layer's activations are in-sample: the network was trained on these labels. "inputs" needs no network.

    Attributes:
        point: the layer: a hook point; "hidden.2" for the third of the role `hidden`; "inputs" for the inputs
            themselves; by default the last layer of the role `hidden`.
        pool: "mean" averages features of shape (example, channel, …) over all axes after the channels first.
        k: number of neighbours that vote.
    """

    name: ClassVar[str] = "knn_shapley"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Jia et al. 2019, arXiv 1908.08619"
    higher: ClassVar[str] = "its vote is right for more of its neighbours"
    suspect: ClassVar[Literal["low", "high"]] = "low"
    unit: ClassVar[str] = "share of votes"
    effect: ClassVar[str] = "share of votes"

    point: str = ""
    pool: Pool = "none"
    k: int = 5

    def __post_init__(self) -> None:
        check_choice("pooling", self.pool, get_args(Pool))
        check_whole("number of neighbours", self.k, 1)

    def wants(self) -> frozenset[str]:
        """The role `hidden`, unless a layer is named."""
        return frozenset() if self.point else self.needs

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the values.

        Raises:
            MissingNeedError: there is only one training example, or a feature is not finite.
            UnknownNameError: there is no such point.
            ActivationError: the point does not fire.
        """
        task, n = subject.task, len(subject.task.sources)
        if n < 2:
            raise MissingNeedError(f"{self.name!r} needs at least two training examples")
        features, given = self._features(subject, task.sources), task.given(task.sources)
        total = torch.zeros(n, dtype=torch.float64)
        for part in blocks(n, AT_ONCE // n):
            distances = torch.cdist(features[part], features)
            # A target is no neighbour of itself.
            distances[torch.arange(len(distances)), torch.arange(n)[part]] = torch.inf
            total += knn_shapley(distances, given[part, None] == given, self.k).sum(0)
        return total / (n - 1), self._note(subject)

    def on_targets(
        self, subject: Subject, sources: Int[Tensor, " source"], targets: Int[Tensor, " target"]
    ) -> tuple[Float[Tensor, "target source"], str]:
        """Return the values of the sources among all training examples, for each target.

        Raises:
            MissingNeedError: see `measure`.
        """
        self.require(subject)
        task = subject.task
        every = task.sources
        features, given = self._features(subject, every), task.given(every)
        column = places_in(every, sources)
        others, labels = self._features(subject, targets), task.given(targets)
        values = torch.empty(len(targets), len(sources))
        for part in blocks(len(targets), AT_ONCE // len(every)):
            distances = torch.cdist(others[part], features)
            distances = distances.masked_fill(targets[part, None] == every, torch.inf)
            values[part] = knn_shapley(distances, labels[part, None] == given, self.k)[:, column].float()
        return values, self._note(subject)

    def _features(self, subject: Subject, ids: Int[Tensor, " example"]) -> Float[Tensor, "example feature"]:
        point = layer_point(subject, self.point)
        features = layer_features(subject, point, ids, self.pool)
        check_finite(features, repr(point))
        return features

    def _note(self, subject: Subject) -> str:
        return f"{self.k} votes at {layer_point(subject, self.point)}"
