"""Base class of surgeries that keep the strongest frequencies of a matrix."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.group import Group
from mechmem.core.plugins import Surgery
from mechmem.core.randomness import generator
from mechmem.errors import MissingNeedError
from mechmem.math.filtration import strongest_frequencies
from mechmem.scorecard.pruned import at_frequencies

Choice = Literal["energy", "random"]


@dataclasses.dataclass(frozen=True)
class CountedFrequencies(Surgery):
    """Base class of surgeries that keep a number of frequencies, the same for all vectors of a matrix.

    Attributes:
        count: number of frequencies to keep, fewer than the group has; by default 20 of 56, as in the paper (at least
            one).
        by: "energy" for those with the most energy, or "random", which is the control.
        seed: seed of the random choice.
    """

    count: int | None = None
    by: Choice = "energy"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count is not None:
            check_whole("number of frequencies", self.count, 1)
        check_choice("choice of frequencies", self.by, get_args(Choice))
        check_whole("seed", self.seed, 0)

    def label(self) -> str:
        """The name with its changed settings: here an alias names the plugin, not a setting."""
        label = super().label()
        return self.name if label in self.aliases else label

    def stand_in(self) -> Surgery | None:
        """The control: the same with as many random frequencies."""
        return None if self.by == "random" else dataclasses.replace(self, by="random")

    def kept_part(
        self, group: Group, vectors: Float[Tensor, "symbol neuron"], stream: str
    ) -> Float[Tensor, "symbol neuron"]:
        """Return the vectors without the other frequencies, in float64 on the CPU.

        Constants and the entries of symbols outside the group stay.

        Args:
            group: the group of the symbols.
            vectors: one column per neuron.
            stream: name of the random stream of a random choice.

        Raises:
            MissingNeedError: the group has no frequency, or no more than would be kept.
        """
        n = group.n_frequencies
        if not n:
            raise MissingNeedError("the task's group has one element, and so no frequency")
        count = max(1, round(n * 20 / 56)) if self.count is None else self.count
        if count >= n:
            raise MissingNeedError(
                f"{self.name!r} keeps {count} frequencies and the group has {n}: nothing would be removed"
            )
        vectors = vectors.double().cpu()
        if self.by == "energy":
            kept = strongest_frequencies(group, vectors, count)
        else:
            kept = torch.randperm(n, generator=generator(self.seed, stream))[:count] + 1
        removed = sorted(set(range(1, n + 1)) - set(kept.tolist()))
        return vectors - at_frequencies(group, vectors, removed)
