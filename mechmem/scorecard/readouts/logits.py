"""Logits of the network itself."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.models.reading.forward import raw_logits


@dataclasses.dataclass(frozen=True)
class Logits(Readout):
    """Read the unchanged logits."""

    name: ClassVar[str] = "logits"
    cites: ClassVar[str] = "the network itself"

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""
        self.require(subject)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return raw_logits(subject)[subject.task.rows(ids)]

        return predict
