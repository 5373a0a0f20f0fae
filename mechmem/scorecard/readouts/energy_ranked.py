"""Logits rebuilt from their strongest two-dimensional Fourier modes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.math.additive import ROWS
from mechmem.math.grid_parts import free_modes, mode_coefficients, mode_waves
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.grid import grid_cells, logit_energy
from mechmem.tasks.grid import grid_rows


@dataclasses.dataclass(frozen=True)
class EnergyRanked(Readout):
    """Keep the modes (k₁, k₂) of the logits over both operands with the most energy, summed over classes.

    Modes (0, ·) and (·, 0) are left out: they are the additive part, which would win in cross-entropy networks. This
    readout reads the whole grid, including training cells, so it finds the rule in the one-hot grid of the labels too.

    Attributes:
        modes: number of modes to keep, a mode and its conjugate counted as one; 0 for as many as the rule of a cyclic
            group has (n // 2).
    """

    name: ClassVar[str] = "energy_ranked"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "test_inputs"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    modes: int = 0

    def __post_init__(self) -> None:
        check_whole("number of modes", self.modes, 0)

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""
        self.require(subject)
        n = len(grid_rows(subject.task))

        def strongest() -> tuple[Int[Tensor, "mode 2"], Float[Tensor, "wave class"]]:
            modes, energy = free_modes(logit_energy(subject, centred=False))
            kept = modes[energy.topk(min(self.modes or n // 2, len(modes))).indices]
            return kept, mode_coefficients(all_logits(subject), grid_rows(subject.task), kept)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            modes, coefficients = subject.memo(self.label(), strongest)
            cells = grid_cells(subject, ids)
            inside = (cells >= 0).all(1)
            scores = torch.empty(len(ids), subject.task.n_classes, dtype=torch.float64)
            for part, place in zip(scores.split(ROWS), cells.split(ROWS), strict=True):
                torch.mm(mode_waves(place, modes, n), coefficients, out=part)
            # A cell off the grid (a factor of 0 under multiplication) keeps its own logits.
            scores[~inside] = all_logits(subject)[subject.task.rows(ids[~inside])].double()
            return scores

        return predict
