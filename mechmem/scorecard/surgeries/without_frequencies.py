"""Removal of some frequencies from every neuron."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.subject import Subject
from mechmem.scorecard.pruned import remove_frequencies
from mechmem.scorecard.ranked_neurons import SomeFrequencies


@dataclasses.dataclass(frozen=True)
class WithoutFrequencies(SomeFrequencies):
    """Remove the given frequencies from the vectors u, v and w of every neuron.

    Constants, the readout bias and symbols outside the group stay. The opposite is `only_frequencies`, which removes
    every other frequency.

    Attributes:
        frequencies: one frequency or several, numbered from 1, e.g. (3, 7).
    """

    name: ClassVar[str] = "without_frequencies"
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a changed copy of its model.

        Raises:
            ConfigError: the group has no such frequency.
        """
        self.require(subject)
        return remove_frequencies(subject, self.numbers)
