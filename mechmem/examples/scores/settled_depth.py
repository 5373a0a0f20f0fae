"""Prediction depth: the layer from which on an example's neighbours vote for the network's prediction."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.layers.features import Pool, layer_points
from mechmem.layers.votes import Distance, layer_votes, settled_from


@dataclasses.dataclass(frozen=True)
class SettledDepth(ExampleScore):
    """Score examples by the first depth from which on their neighbours vote for the network's prediction.

    The depths are the inputs, numbered 0, the layers, and the network's probabilities; if not even the last agrees the
    score is the number of depths. All training examples vote and are scored, each without a vote on itself (the
    analysis `prediction_depth` draws a sample, and measures test examples too). Ties are resolved as there.

    Attributes:
        points: the layers: hook points, patterns such as "layers.*.hook_hidden", "hidden.2" for the third of the role
            `hidden`; several with spaces between them. By default the role `hidden`.
        pool: "mean" averages features of shape (example, channel, …) over all axes after the channels first.
        k: number of neighbours that vote; all others, if there are fewer.
        distance: "euclidean", or "cosine" for the angle.
    """

    name: ClassVar[str] = "settled_depth"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Baldock, Maennel & Neyshabur 2021, arXiv 2106.09647"
    higher: ClassVar[str] = "settled later"
    unit: ClassVar[str] = "places"

    points: str = ""
    pool: Pool = "none"
    k: int = 30
    distance: Distance = "euclidean"

    def __post_init__(self) -> None:
        check_choice("pooling", self.pool, get_args(Pool))
        check_whole("number of neighbours", self.k, 1)
        check_choice("distance", self.distance, get_args(Distance))

    def wants(self) -> frozenset[str]:
        """The role `hidden`, unless layers are named."""
        return frozenset() if self.points.strip() else self.needs

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the depths.

        Raises:
            MissingNeedError: there is only one training example.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        points, sources = layer_points(subject, self.points), subject.task.sources
        votes = layer_votes(subject, points, self.pool, sources, sources[:0], self.k, self.distance)
        note = f"{len(votes.places)} depths, from {votes.places[0]} to {votes.places[-1]}; {votes.k} neighbours vote"
        return settled_from(votes.answers == votes.predicted).double(), note
