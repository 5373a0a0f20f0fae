"""Logits rebuilt from the modes of the task's operation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.grid import grid_cells, logit_parts
from mechmem.tasks.grid import answer_sign


@dataclasses.dataclass(frozen=True)
class Diagonal(Readout):
    """Keep modes (k, k) of the logits over both operands, for every class; (k, −k) for subtraction.

    The result is, per class, a function of a ∘ b alone: the mean over the cells that share an answer. This readout
    knows the operation and reads training cells too, so it recovers whatever a vote of the labels would.
    """

    name: ClassVar[str] = "diagonal"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "slopes", "operation", "test_inputs"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""
        self.require(subject)
        sign = answer_sign(subject.task)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            cells = grid_cells(subject, ids)
            inside = (cells >= 0).all(1)
            rule = logit_parts(subject).rule
            scores = rule[(cells[:, 0] + sign * cells[:, 1]) % len(rule)]
            # A cell off the grid (a factor of 0 under multiplication) keeps its own logits.
            scores[~inside] = all_logits(subject)[subject.task.rows(ids[~inside])].double()
            return scores

        return predict
