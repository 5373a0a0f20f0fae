"""Measurement of edited networks on the four splits and on the labels given in training."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.math.logits import NOT_FINITE, answers_of
from mechmem.models.reading.forward import raw_logits
from mechmem.tasks.splits import Marks, training_set


class Edited:
    """Counts of correct predictions of a network and of its edited copies, one row each.

    Args:
        task: the task.

    Attributes:
        n: number of examples of each split. Shape (split).
        n_train: number of training examples.
    """

    def __init__(self, task: Task):
        self._task, self._marks, self._train = task, Marks(task), training_set(task)
        self._correct: list[Int[Tensor, " split"]] = []
        self._fitted: list[float] = []
        self.n, self.n_train = self._marks.n, len(self._train.ids)

    def add(self, subject: Subject) -> None:
        """Measure one more network."""
        answers = answers_of(raw_logits(subject))
        self._correct.append(self._marks.counts(answers[self._task.rows(self._marks.ids)]))
        own = answers[self._task.rows(self._train.ids)]
        lost = bool((own == NOT_FINITE).any())
        self._fitted.append(float("nan") if lost else float((own == self._train.labels).double().mean()))

    def skip(self) -> None:
        """Add a row for an edit that cannot be made."""
        self._correct.append(torch.full_like(self.n, -1))
        self._fitted.append(float("nan"))

    @property
    def correct(self) -> Int[Tensor, "row split"]:
        """Number of correct predictions; −1 for a split without examples, or with a logit that is not finite."""
        return torch.stack(self._correct)

    @property
    def fitted(self) -> Float[Tensor, " row"]:
        """Share of the training examples that get the label given to them; NaN with a logit that is not finite."""
        return torch.tensor(self._fitted, dtype=torch.float64)
