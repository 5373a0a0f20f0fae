"""Nearest class mean of a layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from mechmem.core.config import check_choice
from mechmem.layers.probe import LayerProbe

if TYPE_CHECKING:
    from mechmem.layers.classifiers.class_means import NearestClassMean

Metric = Literal["cosine", "euclidean"]


@dataclasses.dataclass(frozen=True)
class ClassMean(LayerProbe):
    """Read a layer by the nearest class mean.

    Attributes:
        point: the layer (see `LayerProbe`).
        labels: "given" or "true".
        pool: "none" or "mean".
        metric: "cosine" or "euclidean".
    """

    name: ClassVar[str] = "class_mean"
    cites: ClassVar[str] = "Papyan, Han, Donoho 2020, arXiv 2008.08186"

    metric: Metric = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("metric", self.metric, get_args(Metric))

    def estimator(self, examples: int) -> NearestClassMean:
        """Return the classifier."""
        from mechmem.layers.classifiers.class_means import NearestClassMean

        return NearestClassMean(self.metric)
