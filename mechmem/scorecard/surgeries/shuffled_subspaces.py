"""Control of shared subspaces: the same with the neurons' vectors shuffled against each other."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.scorecard.surgeries.shared_subspaces import SharedSubspaces


@dataclasses.dataclass(frozen=True)
class ShuffledSubspaces(SharedSubspaces):
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
    cites: ClassVar[str] = "control of shared subspaces"
    control: ClassVar[str] = ""
    shuffled: ClassVar[bool] = True
