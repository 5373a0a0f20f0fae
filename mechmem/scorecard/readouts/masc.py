"""MASC: the class whose subspace makes the smallest angle with a layer's activation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mechmem.core.config import check_fraction, check_whole
from mechmem.layers.probe import LayerProbe

if TYPE_CHECKING:
    from mechmem.layers.classifiers.masc import MinimumAngleSubspaces


@dataclasses.dataclass(frozen=True)
class MASC(LayerProbe):
    """Read a layer by the minimum angle subspace classifier.

    Each class is a subspace through the origin, spanned by the first uncentred principal components of the layer on its
    training examples; the predicted class is the one whose subspace makes the smallest angle with the example. Nothing
    is trained.

    Attributes:
        point: the layer (see `LayerProbe`).
        labels: "given" or "true".
        pool: "none" or "mean".
        variance: τ; the components that carry at most this share of a class's energy are kept, and one more.
        components: a fixed number of components instead.
    """

    name: ClassVar[str] = "masc"
    cites: ClassVar[str] = "Ketha & Ramaswamy 2025, arXiv 2501.14687"

    variance: float = 0.99
    components: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("share of the variance", self.variance)
        if self.components is not None:
            check_whole("number of components", self.components, 1)

    def estimator(self, examples: int) -> MinimumAngleSubspaces:
        """Return the classifier."""
        from mechmem.layers.classifiers.masc import MinimumAngleSubspaces

        return MinimumAngleSubspaces(self.variance, self.components)
