"""The network's own output."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from mechmem.contracts import Predictor, Subject
from mechmem.models.forward import all_logits
from mechmem.plugins import Readout


@dataclasses.dataclass(frozen=True)
class Logits(Readout):
    """Read the logits as they are."""

    name: ClassVar[str] = "logits"
    cites: ClassVar[str] = "the network itself"

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return all_logits(subject)[subject.task.rows(ids)]

        return predict
