"""Control of shared subspaces: the same with the neurons' vectors shuffled against each other."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.models.reading.shared_vectors import AUTO, STRENGTH, check_settings
from mechmem.scorecard.surgeries.shared_subspaces import SharedSubspaces, filtered


@dataclasses.dataclass(frozen=True)
class ShuffledSubspaces(Surgery):
    """Filter every vector by a cluster that was found with the vectors of different neurons put together.

    Each role's vectors are the network's own, so they share directions as before; but which input vector belongs to
    which output vector is lost before the neurons are clustered. Accuracy recovered by this surgery is not due to what
    the vectors of one neuron say about each other.

    Attributes:
        clusters: number of clusters, or "auto".
        strength: shrinkage λ of the filters.
        seed: seed of the shuffle and of the clusters.
    """

    name: ClassVar[str] = "shuffled_subspaces"
    needs: ClassVar[frozenset[str]] = SharedSubspaces.needs
    knows: ClassVar[frozenset[str]] = SharedSubspaces.knows
    cites: ClassVar[str] = "control of shared subspaces"

    clusters: int | Literal["auto"] = AUTO
    strength: float = STRENGTH
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.clusters, self.strength, self.seed)

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a filtered copy of its model.

        Raises:
            MissingNeedError: as for `shared_subspaces`.
            NotFiniteError: a weight is NaN or infinite.
        """
        self.require(subject)
        return filtered(subject, self.clusters, self.strength, self.seed, shuffled=True)
