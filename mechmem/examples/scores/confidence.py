"""Confidence: the probability of the given label, averaged over training."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.training.predicted import observations_of


@dataclasses.dataclass(frozen=True)
class Confidence(ExampleScore):
    """Score examples by the probability of the given label in the training passes, averaged over epochs.

    Of an example that was seen several times in an epoch, the epoch's probability is exp(−mean loss), the geometric
    mean.
    """

    name: ClassVar[str] = "confidence"
    needs: ClassVar[frozenset[str]] = frozenset({"run", "observations"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Swayamdipta et al. 2020, arXiv 2009.10795"
    higher: ClassVar[str] = "the given label was likelier over training"
    suspect: ClassVar[Literal["low", "high"]] = "low"

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the mean probabilities.

        Raises:
            MissingNeedError: the run's training passes were not observed, or an example was in none of them.
        """
        found = observations_of(subject, subject.task.sources, self.name)
        return found.loss.double().neg().exp().nanmean(0), f"over {len(found.step)} epochs, in training mode"
