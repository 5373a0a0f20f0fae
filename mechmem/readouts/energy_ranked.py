"""Logits rebuilt from their strongest two-dimensional Fourier modes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from mechmem.config import check_whole
from mechmem.contracts import Predictor, Subject
from mechmem.math.fourier import mode_energy
from mechmem.models.forward import all_logits
from mechmem.plugins import Readout
from mechmem.tasks.grid import masked_modes


@dataclasses.dataclass(frozen=True)
class EnergyRanked(Readout):
    """Keep the modes (k₁, k₂) of the logits over both operands that hold the most energy, summed over classes.

    Modes (0, ·) and (·, 0) are left out: they are the additive part, which would win in cross-entropy networks. It
    reads the whole grid, training cells included, so it finds the rule in the labels' own one-hot grid as well.

    Attributes:
        modes: how many modes to keep, a mode and its conjugate counted as one; 0 for as many as the rule of a cyclic
            group has (n // 2).
    """

    name: ClassVar[str] = "energy_ranked"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "test_inputs"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    modes: int = 0

    def __post_init__(self) -> None:
        """Validate."""
        check_whole("number of modes", self.modes, 0)

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""
        self.require(subject)

        def rebuild() -> Float[Tensor, "example class"]:
            return masked_modes(subject.task, all_logits(subject), self._strongest)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return subject.memo(self.label(), rebuild)[subject.task.rows(ids)]

        return predict

    def _strongest(self, modes: Complex[Tensor, "n half class"]) -> Bool[Tensor, "n half"]:
        n = len(modes)
        energy = mode_energy(modes)
        energy[0], energy[:, 0] = 0, 0
        # Two entries of a one-sided spectrum are conjugates of each other in its Nyquist column: count them once, with
        # the energy of both.
        if n % 2 == 0:
            energy[1 : n // 2, -1] *= 2
            energy[n // 2 + 1 :, -1] = 0
        best = energy.flatten().topk(min(self.modes or n // 2, energy.numel()))
        keep = torch.zeros(energy.numel(), dtype=torch.bool)
        # What has been left out above stays out, however many modes are asked for.
        keep[best.indices] = best.values > 0
        keep = keep.reshape(energy.shape)
        if n % 2 == 0:
            keep[1:, -1] |= keep[1:, -1].flip(0)
        return keep
