"""How many units an example hangs on."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import ExampleScore
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.models.hooks.running import block_rows
from mechmem.models.reading.forward import all_logits
from mechmem.neurons.flipping import BLOCK_ELEMENTS, Removed, flipping_readout, sets_by_algebra, sets_by_running


@dataclasses.dataclass(frozen=True)
class FlipCost(ExampleScore):
    """Score examples by how many units have to be removed before the prediction is no longer the given label.

    Units are removed one by one: each time the one whose removal most raises the example's loss while sparing other
    examples, to first order; an example that is among the others is not spared from itself. An example whose given
    label is not answered as it is has cost 0, and one that `most` removals do not flip an infinite one. The score of
    neurons `neuron_flipping` makes the same search, and says how it deviates from the paper.

    Where the logits are linear in the layer, all follows from its weights; otherwise the network is run, and
    differentiated, once per training example and removal, on it and the others, and the note says so.

    Attributes:
        others: how many other training examples are to be spared, drawn with the seed.
        most: largest number of units that is tried.
        seed: seed of the draw.
        point: any hook point with such units; by default the last of the role `hidden`.
        units: what is removed: a "neuron", on the point's last axis; or a "channel", on its second, (example, channel,
            …).
    """

    name: ClassVar[str] = "flip_cost"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Maini et al. 2023, arXiv 2307.09542"
    higher: ClassVar[str] = "hangs on more units"
    suspect: ClassVar[Literal["low", "high"]] = "low"
    unit: ClassVar[str] = "units"

    others: int = 256
    most: int = 16
    seed: int = 0
    point: str = ""
    units: Removed = "neuron"

    def __post_init__(self) -> None:
        """Validate."""
        check_whole("number of others", self.others, 1)
        check_whole("largest set", self.most, 1)
        check_whole("seed", self.seed, 0)
        check_choice("unit", self.units, get_args(Removed))

    def wants(self) -> frozenset[str]:
        """What holds the units."""
        return frozenset() if self.point else self.needs

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the costs.

        Raises:
            UnknownNameError: there is no such hook point.
            ConfigError: the point has no such units, or not for sure.
            DiscardedEditError: the logits do not depend on what the point holds.
        """
        task, point = subject.task, self.point or subject.roles.hidden[-1]
        rows, given = task.rows(task.sources), task.given(task.ids)
        fitted = all_logits(subject)[rows].argmax(1) == given[rows]
        drawn = torch.randperm(len(rows), generator=generator(self.seed, "flip cost"))[: self.others]
        values = torch.zeros(len(rows), dtype=torch.float64)
        if not fitted.any():
            return values, "no training example is fitted"
        readout, how = flipping_readout(subject, point, self.units)
        if readout is None:
            at_once = block_rows(subject.model)
            sets, _ = sets_by_running(subject, point, self.units, rows[fitted], rows[drawn], self.most, at_once)
        else:
            sets = sets_by_algebra(readout, rows[fitted], rows[drawn], given, self.most, BLOCK_ELEMENTS)
        values[fitted] = sets.removed.sum(1).double().masked_fill(~sets.flipped, torch.inf)
        note = f"{int(sets.flipped.sum())} of {int(fitted.sum())} fitted examples flipped within {self.most} removals"
        return values, "; ".join(filter(None, (note, how)))
