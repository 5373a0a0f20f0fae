"""Area under the margin: the margin of the given label, averaged over training."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.training.predicted import observations_of


@dataclasses.dataclass(frozen=True)
class AUM(ExampleScore):
    """Score examples by the margin of the given label in the training passes, averaged over epochs.

    The margin is the given label's logit minus the highest other one, before the update on the example's batch. The
    paper stops at the first drop of the learning rate, before wrong labels are fitted; this averages over the whole
    run. `margin` is that of the network as it is.
    """

    name: ClassVar[str] = "aum"
    needs: ClassVar[frozenset[str]] = frozenset({"run", "observations"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Pleiss et al. 2020, arXiv 2001.10528"
    higher: ClassVar[str] = "the given label led by more over training"
    suspect: ClassVar[Literal["low", "high"]] = "low"

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the mean margins.

        Raises:
            MissingNeedError: the run's training passes were not observed, or an example was in none of them.
        """
        found = observations_of(subject, subject.task.sources, self.name)
        return found.margin.double().nanmean(0), f"over {len(found.step)} epochs, in training mode"
