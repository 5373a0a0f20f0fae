"""Base classes of surgeries that keep some neurons or frequencies."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

from mechmem.core.config import check_choice, check_fraction
from mechmem.core.plugins import Surgery, named
from mechmem.core.scores import End, NeuronSet
from mechmem.core.subject import Subject
from mechmem.scorecard.pruned import check_frequencies


@dataclasses.dataclass(frozen=True)
class RankedNeurons(Surgery):
    """Base class of surgeries on the share of the neurons at one end of a ranking.

    Attributes:
        by: the score's name, e.g. "ipr(two_sided)"; its prior knowledge is the surgery's.
        fraction: share of the neurons, at least half a neuron.
        end: "high" or "low".
    """

    needs: ClassVar[frozenset[str]] = frozenset({"role:readout"})

    by: str
    fraction: float
    end: End

    def __post_init__(self) -> None:
        named("neuron_scores", self.by)
        check_fraction("fraction of neurons", self.fraction)
        check_choice("end of a ranking", self.end, get_args(End))

    def wants(self) -> frozenset[str]:
        """The needs of the score, and the readout."""
        return self.needs | named("neuron_scores", self.by).wants()

    def told(self) -> frozenset[str]:
        """The prior knowledge of the score; a score that reads input vectors also knows that there are two of them."""
        pairs = frozenset({"pairs"}) if "role:input_embedding" in self.wants() else frozenset()
        return self.knows | pairs | named("neuron_scores", self.by).told()

    def stand_in(self) -> Surgery | None:
        """The control: the same with as many random neurons."""
        return None if self.by.startswith("random") else dataclasses.replace(self, by="random")

    def chosen(self, subject: Subject) -> NeuronSet:
        """Return the neurons at that end of the subject's ranking.

        Raises:
            MissingNeedError: the subject lacks something that the score needs.
            ScoreError: the share is less than one neuron, or the scores cannot rank neurons.
        """
        self.require(subject)
        return named("neuron_scores", self.by)(subject).take(self.fraction, self.end)


@dataclasses.dataclass(frozen=True)
class SomeFrequencies(Surgery):
    """Base class of surgeries on some frequencies of the vectors u, v and w of every neuron.

    Attributes:
        frequencies: one frequency or several, numbered from 1, e.g. (3, 7).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes"})
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    frequencies: int | tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        """Validate; a single frequency becomes a tuple."""
        object.__setattr__(self, "frequencies", self.numbers)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The frequencies, sorted."""
        return check_frequencies(self.frequencies)
