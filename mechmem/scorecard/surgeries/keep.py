"""Subnetwork of the neurons at one end of a ranking."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.scores import End
from mechmem.core.subject import Subject
from mechmem.scorecard.pruned import pruned
from mechmem.scorecard.ranked_neurons import RankedNeurons
from mechmem.scorecard.surgeries.drop import Drop


@dataclasses.dataclass(frozen=True)
class Keep(RankedNeurons):
    """Keep the neurons with the highest (or lowest) scores, and set all weights of the others to zero.

    With the highest scores this is the subnetwork f^G of Liu & Lu 2026, with the lowest f^R. The network is not
    retrained. In a deeper network only the last layer's neurons can be chosen, and only readout weights are set to
    zero; in a transformer those of any block, through its MLP's output matrix. The control keeps as many random
    neurons, `keep(random,…)`; see also the random order of `mm.ablate`.

    Attributes:
        by: the score's name, e.g. "ipr(two_sided)"; its prior knowledge is the surgery's.
        fraction: share of the neurons to keep; at least half a neuron.
        end: "high" or "low".
    """

    name: ClassVar[str] = "keep"
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022, algorithm 1"
    dial: ClassVar[str] = "fraction"
    dial_values: ClassVar[tuple[float, ...]] = tuple(round(1 - dropped, 2) for dropped in Drop.dial_values)

    by: str = "strength"
    fraction: float = 0.5
    end: End = "high"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a pruned copy of its model.

        Raises:
            ScoreError: no neuron would stay, or the scores cannot rank neurons.
        """
        return pruned(subject, self.chosen(subject))
