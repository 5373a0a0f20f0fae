"""Linear classifier trained on a layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mechmem.core.config import check_number, check_whole
from mechmem.layers.probe import LayerProbe

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclasses.dataclass(frozen=True)
class LinearProbe(LayerProbe):
    """Read a layer by logistic regression on standardised features.

    Attributes:
        point: the layer (see `LayerProbe`).
        labels: "given" or "true".
        pool: "none" or "mean".
        C: inverse of the strength of the L2 penalty.
        steps: maximum number of optimiser steps.
    """

    name: ClassVar[str] = "linear_probe"
    cites: ClassVar[str] = "Alain & Bengio 2017, arXiv 1610.01644"

    C: float = 1.0
    steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("inverse strength of the penalty", self.C, above=0)
        check_whole("steps", self.steps, 1)

    def estimator(self, examples: int) -> Pipeline:
        """Return the classifier."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(C=self.C, max_iter=self.steps))
