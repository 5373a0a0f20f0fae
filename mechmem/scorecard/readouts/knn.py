"""Nearest neighbours in a layer's activations."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mechmem.core.config import check_whole
from mechmem.layers.probe import LayerProbe

if TYPE_CHECKING:
    from mechmem.layers.classifiers.neighbours import CosineNeighbours


@dataclasses.dataclass(frozen=True)
class NearestNeighbours(LayerProbe):
    """Read a layer by a vote of the nearest training examples, by angle; ties go to the lowest class.

    Among training examples at the same angle the first are chosen. Angles are computed in chunks, so that memory does
    not grow with the square of the data.

    Attributes:
        point: the layer (see `LayerProbe`).
        labels: "given" or "true".
        pool: "none" or "mean".
        k: number of neighbours that vote; all if there are fewer.
    """

    name: ClassVar[str] = "knn"
    cites: ClassVar[str] = "Anagnostidis et al. 2023, arXiv 2210.14019"

    k: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("number of neighbours", self.k, 1)

    def estimator(self, examples: int) -> CosineNeighbours:
        """Return the classifier."""
        from mechmem.layers.classifiers.neighbours import CosineNeighbours

        return CosineNeighbours(self.k)
