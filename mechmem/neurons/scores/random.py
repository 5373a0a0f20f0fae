"""Random ranking, as a control."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from mechmem.core.config import check_whole
from mechmem.core.plugins import Score
from mechmem.core.randomness import generator
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.models.reading.activations import activations
from mechmem.models.reading.weights import neuron_point


@dataclasses.dataclass(frozen=True)
class RandomRanking(Score):
    """Rank neurons at random, uniformly in [0, 1): the control of any other ranking.

    Attributes:
        seed: seed of the draw.
        point: the layer of neurons; by default the last.
    """

    name: ClassVar[str] = "random"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    cites: ClassVar[str] = "mechmem"
    higher: ClassVar[str] = "nothing: it is drawn at random"

    seed: int = 0
    point: str = ""

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0)

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: the role hidden is missing.
        """
        self.require(subject)
        point = neuron_point(subject, self.point)
        # The width is read at the point, so that no role but `hidden` is needed.
        width = activations(subject, point, ids=subject.task.train_ids[:1])[point].shape[-1]
        drawn = torch.rand(width, generator=generator(self.seed, "random score"), dtype=torch.float64)
        return NeuronScores(self.label(), drawn, point, self.higher)
