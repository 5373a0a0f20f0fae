"""Number of units whose ablation changes the prediction on an example."""

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
    """Score examples by the number of units to ablate before the prediction is no longer the given label.

    Units are ablated one by one: each time the unit whose ablation most raises the example's loss while sparing other
    examples, to first order; an example among the others is not spared from itself. An example whose given label is not
    predicted in the first place has cost 0; an example that `most` units do not flip has infinite cost. The score of
    neurons `neuron_flipping` makes the same search, and describes how it deviates from the paper.

    If the logits are linear in the layer, the weights suffice; otherwise the network takes a forward and a backward
    pass per training example and unit, on the example and the others, and the note says so.

    Attributes:
        others: number of other training examples to spare, drawn with the seed.
        most: largest number of units to ablate.
        seed: seed of the draw.
        point: any hook point with such units; by default the last of the role `hidden`.
        units: "neuron", on the point's last axis; or "channel", on its second, (example, channel, …).
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
        check_whole("number of others", self.others, 1)
        check_whole("largest set", self.most, 1)
        check_whole("seed", self.seed, 0)
        check_choice("unit", self.units, get_args(Removed))

    def wants(self) -> frozenset[str]:
        """The role that holds the units, unless a point is named."""
        return frozenset() if self.point else self.needs

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the costs.

        Raises:
            UnknownNameError: there is no such hook point.
            ConfigError: the point has no such units, or it is not certain that it has.
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
