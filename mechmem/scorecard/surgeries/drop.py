"""Removal of the neurons at one end of a ranking."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.scores import End
from mechmem.core.subject import Subject
from mechmem.scorecard.pruned import pruned
from mechmem.scorecard.ranked_neurons import RankedNeurons


@dataclasses.dataclass(frozen=True)
class Drop(RankedNeurons):
    """Set all weights of the neurons with the lowest (or highest) scores to zero, without retraining.

    Dropping the neurons with the lowest inverse participation ratio removes the memorized labels from a network and
    leaves the rule (Doshi et al. 2024). In a deeper network only the last layer's neurons can be dropped, and only
    their readout weights are set to zero; in a transformer those of any block, through its MLP's output matrix. The
    control drops as many random neurons, `drop(random,…)`; see also the random order of `mm.ablate`.

    Attributes:
        by: the score's name, e.g. "ipr(two_sided)"; its prior knowledge is the surgery's.
        fraction: share of the neurons to drop; at least half a neuron.
        end: "low" or "high".
    """

    name: ClassVar[str] = "drop"
    cites: ClassVar[str] = "Doshi et al. 2024, arXiv 2310.13061"
    dial: ClassVar[str] = "fraction"
    dial_values: ClassVar[tuple[float, ...]] = (
        *(0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.83, 0.86),
        *(0.89, 0.92, 0.94, 0.96, 0.98),
    )

    by: str = "ipr"
    fraction: float = 0.5
    end: End = "low"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a pruned copy of its model.

        Raises:
            ScoreError: no neuron would go or none would stay, or the scores cannot rank neurons.
        """
        return pruned(subject, ~self.chosen(subject))
