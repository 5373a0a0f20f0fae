"""Influence by Kronecker factors of the Fisher matrix."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.config import check_number, check_whole
from mechmem.core.subject import Subject
from mechmem.examples.example_gradients import ExampleGradients
from mechmem.examples.influence_score import Curvature, GradientInfluence
from mechmem.examples.kronecker import KroneckerCurvature, factored_parameters


@dataclasses.dataclass(frozen=True)
class EkfacInfluence(GradientInfluence):
    """Score examples by their influence on themselves, with the Fisher matrix by EK-FAC as the curvature.

    Linear layers and convolutions have Kronecker factors; parameters of normalizations are left out, and a network with
    others is refused. Damping is a share of a layer's mean eigenvalue, as in kronfluence.

    Attributes:
        parameters: names or patterns of the parameters, with spaces between them; by default all of linear layers and
            convolutions.
        damping: added to the eigenvalues of each layer, as a share of their mean.
        examples: number of training examples over which factors and eigenvalues are means; all, if there are fewer.
        seed: seed of the draw of these examples and of their labels.
    """

    name: ClassVar[str] = "ekfac_influence"
    needs: ClassVar[frozenset[str]] = frozenset({"linear_layers"})
    cites: ClassVar[str] = "Grosse et al. 2023, arXiv 2308.03296; George et al. 2018, arXiv 1806.03884"

    damping: float = 0.1
    examples: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("damping", self.damping, above=0)
        check_whole("number of examples", self.examples, 1)
        check_whole("seed", self.seed, 0)

    def gradients(self, subject: Subject) -> tuple[ExampleGradients, str]:
        """Return the gradients of the parameters that have factors.

        Raises:
            MissingNeedError: a layer has other parameters.
        """
        patterns, note = factored_parameters(subject, self.parameters, repr(self.name))
        return ExampleGradients(subject, patterns), note

    def curvature(self, gradients: ExampleGradients) -> Curvature:
        """Return the inverse of the damped Fisher matrix."""
        return KroneckerCurvature(gradients, self.damping, self.examples, self.seed)
