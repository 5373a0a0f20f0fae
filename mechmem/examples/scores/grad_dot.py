"""Products of gradients, without any curvature."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.examples.example_gradients import ExampleGradients
from mechmem.examples.influence_score import Curvature, GradientInfluence, Rows


@dataclasses.dataclass(frozen=True)
class GradDot(GradientInfluence):
    """Score examples by the squared length of their loss's gradient; influence is the product of two gradients.

    It is the influence function with H = 1, and TracIn at the last state with learning rate 1: the baseline of
    everything that weighs gradients by a curvature.

    Attributes:
        parameters: see `GradientInfluence`.
    """

    name: ClassVar[str] = "grad_dot"
    cites: ClassVar[str] = "Charpiat et al. 2019, arXiv 2102.05262"
    higher: ClassVar[str] = "the gradient of its loss is longer"
    unit: ClassVar[str] = "nats per unit of step"
    effect: ClassVar[str] = "nats per unit of step"

    def curvature(self, gradients: ExampleGradients) -> Curvature:
        """Return the identity."""
        return _Identity()


class _Identity(Curvature):
    def solve(self, rows: Rows) -> Rows:
        return rows
