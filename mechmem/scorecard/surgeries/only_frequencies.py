"""Some frequencies of every neuron, with the others removed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.models.reading.weights import neuron_weights
from mechmem.scorecard.pruned import remove_frequencies
from mechmem.scorecard.ranked_neurons import SomeFrequencies


@dataclasses.dataclass(frozen=True)
class OnlyFrequencies(SomeFrequencies):
    """Remove every frequency but the given ones from the vectors u, v and w of every neuron.

    Constants, the readout bias and symbols outside the group stay, as in `without_frequencies`: keeping all frequencies
    changes nothing. (Frequency filtration keeps a different frequency in each neuron, and no constant.)

    Attributes:
        frequencies: one frequency or several, numbered from 1, e.g. (3, 7).
    """

    name: ClassVar[str] = "only_frequencies"
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a changed copy of its model.

        Raises:
            ConfigError: the group has no such frequency.
        """
        self.require(subject)
        kept, n = self.numbers, neuron_weights(subject)[0].n_frequencies
        if kept[-1] > n:
            raise ConfigError(f"frequencies lie in 1 … {n} here, got {kept[-1]}")
        return remove_frequencies(subject, sorted(set(range(1, n + 1)) - set(kept)))
