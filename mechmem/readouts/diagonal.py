"""Logits rebuilt from the modes that the task's own operation uses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.contracts import Predictor, Subject
from mechmem.math.fourier import from_modes, grid_modes
from mechmem.models.forward import all_logits
from mechmem.plugins import Readout
from mechmem.readouts.energy_ranked import on_ids
from mechmem.tasks.grid import grid_rows


@dataclasses.dataclass(frozen=True)
class Diagonal(Readout):
    """Keep modes (k, k) of the logits over both operands, for every class; (k, −k) for subtraction.

    What is left is, per class, a function of a ∘ b alone: the mean over the cells that share an answer. It is told the
    operation, and reads training cells too, so it recovers whatever a vote of the labels would.
    """

    name: ClassVar[str] = "diagonal"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "slopes", "operation", "test_inputs"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""
        self.require(subject)

        def rebuild() -> Float[Tensor, "example class"]:
            rows = grid_rows(subject.task)
            logits = all_logits(subject).double()
            table = grid_modes(logits[rows])
            n = len(rows)
            k = torch.arange(1, table.shape[1])
            keep = torch.zeros(table.shape[:2])
            keep[(-k if subject.task.operation == "subtract" else k) % n, k] = 1
            return on_ids(rows, from_modes(table * keep[..., None]), logits)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return subject.memo(self.label(), rebuild)[subject.task.rows(ids)]

        return predict
