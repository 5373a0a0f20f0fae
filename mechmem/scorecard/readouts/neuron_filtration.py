"""Logits after filtering each neuron's activations on the grid at one frequency."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import Readout
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.errors import MissingNeedError
from mechmem.math.filtration import KeyWaves
from mechmem.models.reading.grid import grid_cells, grid_frequencies
from mechmem.models.reading.replaced_neurons import logits_after
from mechmem.models.reading.weights import neuron_point
from mechmem.scorecard.strongest_frequencies import Choice
from mechmem.tasks.grid import grid_rows


@dataclasses.dataclass(frozen=True)
class NeuronFiltration(Readout):
    """Filter each neuron's activation n(a, b) at its key frequency, and run the rest of the network on the result.

    The activations are those at the output position, on the whole grid, including training cells. A neuron's key
    frequency k has the most energy in the modes (k, 0), (0, k), (k, k) and (k, −k), which span the products of 1,
    cos ka, sin ka with 1, cos kb, sin kb; that both operands have the same k is knowledge of the operation up to its
    sign. The new activation is the mean over the grid plus these modes (G), or everything but these modes (R, which
    keeps the mean too, since later layers may rely on it). Cells off the grid (a factor of 0 under multiplication) keep
    their activations.

    Unlike frequency filtration this needs no weight vector over the symbols, so it applies to a transformer's MLP.
    Other positions and paths around the neurons (the residual stream) are unchanged.

    Attributes:
        part: "G", the kept frequency, or "R", the remainder.
        point: hook point of the layer, from the role `hidden`; by default the last.
        by: "energy" for the key frequency, or "random" for a random one per neuron, which is the control.
        seed: seed of the random choice.
    """

    name: ClassVar[str] = "neuron_filtration"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "slopes", "test_inputs"})
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217; Liu & Lu 2026, arXiv 2605.18022"
    reads: ClassVar[Literal["logits", "network"]] = "network"

    part: Literal["G", "R"] = "G"
    point: str = ""
    by: Choice = "energy"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("part of a filtration", self.part, ("G", "R"))
        check_choice("choice of frequencies", self.by, get_args(Choice))
        check_whole("seed", self.seed, 0)

    def stand_in(self) -> Readout | None:
        """The control: the same with a random frequency for each neuron."""
        return None if self.by == "random" else dataclasses.replace(self, by="random")

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor.

        Raises:
            MissingNeedError: a need is missing, the group is not cyclic or has no frequency, or the task lacks a pair.
            UnknownNameError: there is no such layer.
            ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
        """
        self.require(subject)
        point = neuron_point(subject, self.point)
        if len(grid_rows(subject.task)) < 2:
            raise MissingNeedError("the task's group has one element, and so no frequency")

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            waves = subject.memo(f"{self.name} {point} {self.by} {self.seed}", lambda: self._waves(subject, point))
            cells = grid_cells(subject, ids)

            def change(block: slice, own: Float[Tensor, "row neuron"]) -> Float[Tensor, "row neuron"]:
                inside = (cells[block] >= 0).all(1)
                part = waves.at(cells[block][inside])
                new = own.to(part)
                new[inside] = part if self.part == "G" else new[inside] - (part - waves.constant)
                return new

            return logits_after(subject, point, ids, change)

        return predict

    def _waves(self, subject: Subject, point: str) -> KeyWaves:
        found = grid_frequencies(subject, point)
        energy = found.energy()
        if self.by == "energy":
            return found.at(energy.argmax(0) + 1)
        freq, neurons = energy.shape
        return found.at(torch.randint(1, freq + 1, (neurons,), generator=generator(self.seed, self.name)))
