"""Logits without their row and column effects."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.math.additive import additive_residual
from mechmem.models.reading.forward import all_logits


@dataclasses.dataclass(frozen=True)
class AdditiveFree(Readout):
    """Subtract from the logits the effects of a alone and of b alone; predict from the residual.

    The effects are fitted per class by least squares on the predicted cells only: a fit that saw training cells would
    carry their labels over. The only prior knowledge is that inputs are pairs, so this is the baseline for any
    extractor that claims to be blind to structure.
    """

    name: ClassVar[str] = "additive_free"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "test_inputs"})
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""
        self.require(subject)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            rows = subject.task.rows(ids)
            operands = subject.task.operands
            assert operands is not None
            return additive_residual(all_logits(subject)[rows], operands[rows], subject.task.symbols)

        return predict
