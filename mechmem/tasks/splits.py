"""The four splits of a task: which examples each holds, and the labels they are measured against."""

from __future__ import annotations

import dataclasses

from jaxtyping import Int
from torch import Tensor

from mechmem.core.task import Task
from mechmem.tasks.config import SPLITS


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledSplit:
    """The examples of a split.

    Attributes:
        name: one of the four splits.
        ids: its examples. Shape (example).
        labels: what they are measured against: given labels in "train_noisy", true ones elsewhere. Shape (example).
        truth: their true labels; examples that share one are not independent of each other. Shape (example).
    """

    name: str
    ids: Int[Tensor, " example"]
    labels: Int[Tensor, " example"]
    truth: Int[Tensor, " example"]


def labelled_splits(task: Task) -> list[LabelledSplit]:
    """List the splits that have examples and known labels, in the order of `SPLITS`."""
    found = []
    for name in SPLITS:
        ids = task.splits[name.removesuffix("_true")]
        truth = task.true(ids) if ids is not None and len(ids) else None
        if ids is not None and truth is not None:
            labels = task.given(ids) if name == "train_noisy" else truth
            found.append(LabelledSplit(name, ids, labels, truth))
    return found
