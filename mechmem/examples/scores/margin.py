"""Margin of the given label over the strongest other label."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.models.reading.forward import logits_of

Of = Literal["logits", "probabilities"]


@dataclasses.dataclass(frozen=True)
class Margin(ExampleScore):
    """Score examples by the given label's logit minus the highest logit of any other label.

    If the margin is below 0 the given label is not predicted. The paper averages it over training; this is the margin
    of the network as it is. The literature uses logits: differences of probabilities saturate at ±1, where well and
    very well fitted examples look the same.

    Attributes:
        of: "logits", or "probabilities" for differences in −1 … 1.
    """

    name: ClassVar[str] = "margin"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Pleiss et al. 2020, arXiv 2001.10528"
    higher: ClassVar[str] = "the given label leads by more"
    suspect: ClassVar[Literal["low", "high"]] = "low"

    of: Of = "logits"

    def __post_init__(self) -> None:
        check_choice("scores of labels", self.of, get_args(Of))

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the margins."""
        task = subject.task
        logits = logits_of(subject.model, task, task.sources, subject.roles.output).double()
        scores = logits if self.of == "logits" else logits.softmax(1)
        label = rearrange(task.given(task.sources), "example -> example 1")
        others = scores.scatter(1, label, -torch.inf).amax(1)
        return scores.gather(1, label)[:, 0] - others, ""
