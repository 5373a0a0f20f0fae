"""Filtration at a random frequency per neuron: the control of frequency filtration."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import Surgery
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.models.reading.weights import neuron_weights
from mechmem.scorecard.surgeries.frequency import FrequencyFiltration, filtered


@dataclasses.dataclass(frozen=True)
class RandomFrequencyFiltration(Surgery):
    """Keep one random frequency per neuron, whatever its weights.

    Accuracy recovered by this surgery is not due to the choice of the frequency, only to forcing u, v and w onto a
    common one.

    Attributes:
        part: "G", the kept frequency, or "R", the remainder.
        seed: seed of the draw.
    """

    name: ClassVar[str] = "random_frequency"
    needs: ClassVar[frozenset[str]] = FrequencyFiltration.needs
    knows: ClassVar[frozenset[str]] = FrequencyFiltration.knows
    cites: ClassVar[str] = "control of frequency filtration"

    part: Literal["G", "R"] = "G"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("part of a filtration", self.part, ("G", "R"))
        check_whole("seed", self.seed, 0)

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a filtered copy of its model."""
        self.require(subject)
        group, _, readout = neuron_weights(subject)
        draw = generator(self.seed, "random_frequency")
        return filtered(subject, torch.randint(1, group.n_frequencies + 1, (len(readout),), generator=draw), self.part)
