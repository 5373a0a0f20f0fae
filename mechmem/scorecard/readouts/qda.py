"""Quadratic discriminant analysis of a layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mechmem.core.config import check_fraction
from mechmem.errors import ConfigError
from mechmem.layers.probe import LayerProbe

if TYPE_CHECKING:
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis


@dataclasses.dataclass(frozen=True)
class QDA(LayerProbe):
    """Read a layer by a Gaussian per class.

    Each class takes an eigendecomposition of a (feature, feature) matrix. A class with a single example has no
    covariance and is refused.

    Attributes:
        point: the layer (see `LayerProbe`).
        labels: "given" or "true".
        pool: "none" or "mean".
        shrinkage: share of a sphere with the same mean variance in each covariance, above 0: a unit that is dead on a
            class would make it singular.
    """

    name: ClassVar[str] = "qda"
    cites: ClassVar[str] = "Friedman 1989, doi 10.1080/01621459.1989.10478752"

    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("shrinkage", self.shrinkage)
        if not self.shrinkage:
            raise ConfigError("shrinkage must be above 0, got 0")

    def estimator(self, examples: int) -> QuadraticDiscriminantAnalysis:
        """Return the classifier."""
        from sklearn.covariance import ShrunkCovariance
        from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

        covariance = ShrunkCovariance(shrinkage=self.shrinkage, store_precision=False)
        # scikit-learn would refuse small variances by an absolute bound; after shrinkage they are above 0.
        return QuadraticDiscriminantAnalysis(solver="eigen", covariance_estimator=covariance, tol=0.0)
