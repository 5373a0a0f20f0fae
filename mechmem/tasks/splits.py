"""The four splits of a task: their examples and reference labels."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.task import Task
from mechmem.math.logits import NOT_FINITE
from mechmem.tasks.config import SPLITS

TrainingIds = Literal["training", "sources"]
"""Training examples to split: all of them, or the originals of fixed augmented views."""

NOT_IN_SPLIT = -1
"""Label of an example that is not in a split."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledSplit:
    """The examples of a split.

    Attributes:
        name: one of the four splits, or "train" for all training examples.
        ids: ids of its examples. Shape (example).
        labels: their reference labels: given labels in "train_noisy" and "train", true labels elsewhere. Shape
            (example).
        truth: their true labels; examples with the same one are not independent. Shape (example).
    """

    name: str
    ids: Int[Tensor, " example"]
    labels: Int[Tensor, " example"]
    truth: Int[Tensor, " example"]


def split_ids(task: Task, examples: TrainingIds = "training") -> dict[str, Int[Tensor, " example"]]:
    """Return the ids of each split, some of which may be empty.

    The splits are "train_clean", "train_noisy" and "test"; or "train" and "test" if it is unknown which training labels
    are wrong.
    """
    ids = _training_ids(task, examples)
    noisy = task.is_noisy(ids)
    training = {"train": ids} if noisy is None else {"train_clean": ids[~noisy], "train_noisy": ids[noisy]}
    return {**training, "test": task.test_ids}


def split_names(noisy: Bool[Tensor, " example"] | None, n: int) -> tuple[str, ...]:
    """Return the split of each of n training examples, named as in `split_ids`."""
    if noisy is None:
        return ("train",) * n
    return tuple("train_noisy" if each else "train_clean" for each in noisy.tolist())


def labelled_splits(task: Task, examples: TrainingIds = "training") -> list[LabelledSplit]:
    """List the splits that have examples and known labels, in the order of `SPLITS`."""
    ids = split_ids(task, examples)
    found = []
    for name in SPLITS:
        own = ids.get(name.removesuffix("_true"))
        truth = task.true(own) if own is not None and len(own) else None
        if own is not None and truth is not None:
            labels = task.given(own) if name == "train_noisy" else truth
            found.append(LabelledSplit(name, own, labels, truth))
    return found


def training_set(task: Task, examples: TrainingIds = "training") -> LabelledSplit:
    """Return all training examples with their given labels, which also replace unknown true labels."""
    ids = _training_ids(task, examples)
    given, truth = task.given(ids), task.true(ids)
    return LabelledSplit("train", ids, given, given if truth is None else truth)


def split_labels(
    task: Task, ids: Int[Tensor, " example"], examples: TrainingIds = "training"
) -> Int[Tensor, "split example"]:
    """Return the reference labels of these examples in each split, or `NOT_IN_SPLIT`."""
    rows = task.rows(ids)
    found = torch.full((len(SPLITS), len(ids)), NOT_IN_SPLIT)
    for split in labelled_splits(task, examples):
        known = torch.full((len(task.ids),), NOT_IN_SPLIT)
        known[task.rows(split.ids)] = split.labels
        found[SPLITS.index(split.name)] = known[rows]
    return found


class Marks:
    """Counts of correct predictions on each of the four splits.

    Args:
        task: the task.
        examples: which training examples are split.

    Attributes:
        ids: ids of the training examples, then of the test examples. Shape (example).
        member: whether an example is in a split; False for all in an empty or unknown split. Shape (split, example).
        n: number of examples of each split. Shape (split).
    """

    def __init__(self, task: Task, examples: TrainingIds = "training"):
        self.ids = torch.cat([_training_ids(task, examples), task.test_ids])
        self._labels = split_labels(task, self.ids, examples)
        self.member = self._labels != NOT_IN_SPLIT
        self.n = self.member.sum(1)

    def right(self, answers: Int[Tensor, "*layer example"]) -> Bool[Tensor, "*layer split example"]:
        """Return which predictions are correct in which split."""
        return (answers[..., None, :] == self._labels) & self.member

    def counts(self, answers: Int[Tensor, "*layer example"]) -> Int[Tensor, "*layer split"]:
        """Return correct predictions of each split; −1 where it is empty or unknown, or where one is `NOT_FINITE`."""
        found = self.right(answers).sum(-1)
        lost = ((answers[..., None, :] == NOT_FINITE) & self.member).any(-1) | ~self.member.any(-1)
        return torch.where(lost, -1, found)

    def both(
        self, one: Int[Tensor, "*layer example"], other: Int[Tensor, "*layer example"]
    ) -> Int[Tensor, "*layer split"]:
        """Return how many examples of each split both predict correctly; −1 as in `counts`."""
        lost = (self.counts(one) < 0) | (self.counts(other) < 0)
        return torch.where(lost, -1, (self.right(one) & self.right(other)).sum(-1))


def _training_ids(task: Task, examples: TrainingIds) -> Int[Tensor, " example"]:
    return task.sources if examples == "sources" else task.train_ids
