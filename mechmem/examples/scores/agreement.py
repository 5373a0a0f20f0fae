"""Agreement of other networks with the network's prediction."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_whole
from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.math.logits import answers_of
from mechmem.models.reading.forward import check_logits, logits_of

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
        """Return the shares.

        Raises:
            NotFiniteError: a logit of one of the networks is NaN or infinite.
        """
        assert subject.retrainer is not None
        own = self._answers(subject, subject.model)
        alike = torch.zeros(len(own), dtype=torch.float64)
        for seed in self._seeds(subject):
            twin = subject.retrainer.retrained(seed=seed)
            alike += self._answers(subject, twin) == own
        return alike / self.count, f"of {self.count} networks of other seeds"

    def _answers(self, subject: Subject, model: nn.Module) -> Int[Tensor, " example"]:
        task = subject.task
        logits = logits_of(model, task, task.sources, subject.roles.output)
        check_logits(logits, task.sources)
        return answers_of(logits)

    def _seeds(self, subject: Subject) -> list[int]:
        config = getattr(subject.retrainer, "config", None)
        own = None if config is None else config.seed
        return [seed for seed in range(FIRST_SEED, FIRST_SEED + self.count + 1) if seed != own][: self.count]
