"""VeLPIC: the first principal component of each class as its weight vector."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mechmem.layers.probe import LayerProbe

if TYPE_CHECKING:
    from mechmem.layers.classifiers.class_means import PrincipalDirections


@dataclasses.dataclass(frozen=True)
class VeLPIC(LayerProbe):
    """Read a layer by the inner product with each class's first uncentred principal component.

    Attributes:
        point: the layer (see `LayerProbe`).
        labels: "given" or "true".
        pool: "none" or "mean".
    """

    name: ClassVar[str] = "velpic"
    cites: ClassVar[str] = "Ketha & Ramaswamy 2025, arXiv 2501.14687"

    def estimator(self, examples: int) -> PrincipalDirections:
        """Return the classifier."""
        from mechmem.layers.classifiers.class_means import PrincipalDirections

        return PrincipalDirections()
