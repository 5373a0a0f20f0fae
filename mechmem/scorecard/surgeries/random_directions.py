"""Control of curvature directions: as many directions of the same basis, drawn at random."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.scorecard.surgeries.curvature_directions import CurvatureDirections


@dataclasses.dataclass(frozen=True)
class RandomDirections(CurvatureDirections):
    """Keep as many directions of each layer's curvature basis as `curvature_directions` keeps, drawn at random.

    Accuracy left by this surgery is not due to the order of the directions, only to their number.

    Attributes:
        keep: share of the curvature that the number is taken from.
        layers: names or patterns of the weights; by default all but the readout's.
        labels: labels of the gradients: "model", "drawn" or "given".
        examples: number of training examples in the second moments.
        seed: seed of the draws, that of the directions too.
    """

    name: ClassVar[str] = "random_directions"
    cites: ClassVar[str] = "control of curvature directions"
    control: ClassVar[str] = ""
    shuffled: ClassVar[bool] = True
