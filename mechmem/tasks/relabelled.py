"""A task with other training labels, e.g. for a noise-only twin."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.randomness import generator
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError


class RelabelledTask(Task):
    """A task with the inputs, truth and split of another, but other given labels in training.

    Args:
        task: the task whose labels are replaced.
        given: the new training labels, in the order of `task.train_ids`.

    Raises:
        ConfigError: the number of labels is not that of training examples.
    """

    def __init__(self, task: Task, given: Int[Tensor, " train"]):
        if len(given) != len(task.train_ids):
            raise ConfigError(f"expected {len(task.train_ids)} training labels, got {len(given)}")
        self._task = task
        self.n_classes = task.n_classes
        self.ids, self.train_ids, self.test_ids = task.ids, task.train_ids, task.test_ids
        self.operands, self.group, self.operation = task.operands, task.group, task.operation
        self.augmented, self.title, self.class_names = task.augmented, task.title, task.class_names
        self.example_names, self.units = task.example_names, task.units
        self.dropped_copies, self.held_out_copies = task.dropped_copies, task.held_out_copies
        self._labels = task.given(task.ids).clone()
        self._labels[task.rows(task.train_ids)] = given

    @property
    def sources(self) -> Int[Tensor, " example"]:
        """The original task's."""
        return self._task.sources

    def source(self, ids: Ids) -> Int[Tensor, " example"]:
        """The original task's."""
        return self._task.source(ids)

    def answer_positions(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """The original task's."""
        return self._task.answer_positions(ids)

    @property
    def symbols(self) -> int:
        """The original task's."""
        return self._task.symbols

    @property
    def digest(self) -> str:
        """Hash of the original task and the new labels."""
        labels = hashlib.blake2b(self._labels.numpy().tobytes(), digest_size=4).hexdigest()
        return f"{self._task.digest}-{labels}"

    @property
    def summary(self) -> dict[str, Any]:
        """The original task's description."""
        return self._task.summary

    def batch(self, ids: Ids, step: int | None = None) -> tuple[Inputs, Int[Tensor, " example"]]:
        """Return the original inputs with the new labels."""
        return self._task.batch(ids, step)[0], self._labels[self.rows(ids)]

    def true(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """Return the original truth."""
        return self._task.true(ids)


def noise_only(task: Task, seed: int = 0) -> RelabelledTask:
    """Return the task with every training label uniform over all classes.

    Over all classes, because labels that are always wrong carry information about the true one, so they are not a valid
    null.
    """
    draw = generator(seed, "noise_only")
    return RelabelledTask(task, torch.randint(task.n_classes, (len(task.train_ids),), generator=draw))
