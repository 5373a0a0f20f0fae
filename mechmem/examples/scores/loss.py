"""The network's loss on each example."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.models.reading.forward import logits_of


@dataclasses.dataclass(frozen=True)
class ExampleLoss(ExampleScore):
    """Score examples by the network's loss on the given label: the baseline that every other score has to beat.

    The loss is the cross-entropy, whatever the training loss.
    """

    name: ClassVar[str] = "loss"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "the network itself"
    higher: ClassVar[str] = "the given label is less likely"
    unit: ClassVar[str] = "nats"

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the losses."""
        task = subject.task
        logits = logits_of(subject.model, task, task.sources, subject.roles.output)
        return F.cross_entropy(logits.double(), task.given(task.sources), reduction="none"), ""
