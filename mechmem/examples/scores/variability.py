"""Variability: the spread of the given label's probability over training."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.training.predicted import observations_of


@dataclasses.dataclass(frozen=True)
class Variability(ExampleScore):
    """Score examples by the standard deviation over epochs of the probability of the given label in training passes.

    In the paper, examples of high variability are ambiguous, and wrong labels have a low `confidence`. Wrong labels
    that are fitted in the end go from unlikely to likely, so that they are expected at the high end here. The sum of
    squares is divided by the number of epochs, as in the paper.
    """

    name: ClassVar[str] = "variability"
    needs: ClassVar[frozenset[str]] = frozenset({"run", "observations"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Swayamdipta et al. 2020, arXiv 2009.10795"
    higher: ClassVar[str] = "the given label's probability moved more over training"
    suspect: ClassVar[Literal["low", "high"]] = "high"

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the standard deviations.

        Raises:
            MissingNeedError: the run's training passes were not observed, or an example was in none of them.
        """
        found = observations_of(subject, subject.task.sources, self.name)
        probability = found.loss.double().neg().exp()
        variance = (probability - probability.nanmean(0)).square().nanmean(0)
        return variance.sqrt(), f"over {len(found.step)} epochs, in training mode"
