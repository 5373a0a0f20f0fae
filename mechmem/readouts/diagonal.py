"""Logits rebuilt from the modes that the task's own operation uses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from mechmem.contracts import Predictor, Subject
from mechmem.models.forward import all_logits
from mechmem.plugins import Readout
from mechmem.tasks.grid import masked_modes


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

        def diagonal(modes: Complex[Tensor, "n half class"]) -> Bool[Tensor, "n half"]:
            keep = torch.zeros(modes.shape[:2], dtype=torch.bool)
            k = torch.arange(1, modes.shape[1])
            keep[(-k if subject.task.operation == "subtract" else k) % len(modes), k] = True
            return keep

        def rebuild() -> Float[Tensor, "example class"]:
            return masked_modes(subject.task, all_logits(subject), diagonal)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return subject.memo(self.label(), rebuild)[subject.task.rows(ids)]

        return predict
