"""Share of a neuron's energy that it shares with other neurons."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from mechmem.core.plugins import Score
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.models.reading.shared_vectors import AUTO, STRENGTH, check_settings, shared_vectors


@dataclasses.dataclass(frozen=True)
class SharedEnergy(Score):
    """Rank neurons by the share of their vectors' energy that other neurons of their cluster predict.

    Neurons are clustered by the subspaces that their vectors share, and the score is the mean over vectors of
    xᵀ F x − tr F / n, where x is the vector without its mean, of length 1, and F its cluster's filter without the
    neuron itself (see `math.subspaces`): 1 for a copy of others, 0 for a direction that has nothing to do with them. A
    neuron is in the cluster that suits it best, so random neurons are above 0 on average: the analysis
    `shared_structure` shows the twins' beside them. It uses nothing of the task.

    Attributes:
        clusters: number of clusters, or "auto".
        strength: shrinkage λ of the filters.
        seed: seed of the clusters.
        point: the layer of neurons; by default the last.
    """

    name: ClassVar[str] = "shared_energy"
    needs: ClassVar[frozenset[str]] = frozenset({"role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs"})
    cites: ClassVar[str] = "mechmem, after the question of Liu & Lu 2026, arXiv 2605.18022"
    higher: ClassVar[str] = "more generalizing"

    clusters: int | Literal["auto"] = AUTO
    strength: float = STRENGTH
    seed: int = 0
    point: str = ""

    def __post_init__(self) -> None:
        check_settings(self.clusters, self.strength, self.seed)

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores; 0 for a dead neuron, one of whose vectors is constant.

        Raises:
            MissingNeedError: a need is missing, the neurons have one vector each, or too few are live.
            UnknownNameError: there is no such layer.
            NotFiniteError: a weight is NaN or infinite.
        """
        self.require(subject)
        found = shared_vectors(subject, self.clusters, self.strength, self.seed, self.point)
        values = torch.zeros(len(found.live), dtype=torch.float64)
        values[found.live] = found.energies.mean(0)
        dead = int((~found.live).sum())
        note = f"{dead} dead neurons have the score 0" if dead else ""
        return NeuronScores(self.label(), values, found.source.point, self.higher, note)
