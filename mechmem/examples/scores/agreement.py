"""Agreement of other networks with the network's prediction."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.models.reading.forward import logits_of

FIRST_SEED = 1000
"""First seed of the other networks; the rest follow it, without the network's own."""


@dataclasses.dataclass(frozen=True)
class Agreement(ExampleScore):
    """Score examples by the share of other networks with the same prediction.

    The others are trained, or opened if they exist, with the same labels, settings and number of steps and other seeds
    of initialisation and order. They fit the training set too: once all of it is fitted they agree on every example,
    so the score separates examples only if training ends before that.

    Deviation from the paper: it uses the divergence between the networks' probabilities, which is more sensitive than
    the predicted labels.

    Attributes:
        count: number of other networks.
    """

    name: ClassVar[str] = "agreement"
    needs: ClassVar[frozenset[str]] = frozenset({"retrainer"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Carlini, Erlingsson & Papernot 2019, arXiv 1910.13427"
    higher: ClassVar[str] = "more networks predict alike"
    suspect: ClassVar[Literal["low", "high"]] = "low"
    unit: ClassVar[str] = "share of networks"

    count: int = 4

    def __post_init__(self) -> None:
        check_whole("number of networks", self.count, 1)

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the shares."""
        task, output = subject.task, subject.roles.output
        assert subject.retrainer is not None
        own = logits_of(subject.model, task, task.sources, output).argmax(1)
        alike = torch.zeros(len(own), dtype=torch.float64)
        for seed in self._seeds(subject):
            twin = subject.retrainer.retrained(seed=seed)
            alike += logits_of(twin, task, task.sources, output).argmax(1) == own
        return alike / self.count, f"of {self.count} networks of other seeds"

    def _seeds(self, subject: Subject) -> list[int]:
        config = getattr(subject.retrainer, "config", None)
        own = None if config is None else config.seed
        return [seed for seed in range(FIRST_SEED, FIRST_SEED + self.count + 1) if seed != own][: self.count]
