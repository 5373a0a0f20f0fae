"""Ways to choose which cells are trained on."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.randomness import generator
from mechmem.core.task import Task
from mechmem.tasks.config import SPLITS, SplitKind


def training_mask(answers: Int[Tensor, " cell"], fraction: float, kind: SplitKind, seed: int) -> Bool[Tensor, " cell"]:
    """Tell for each cell whether it is trained on.

    Args:
        answers: true answer of each cell.
        fraction: share of the cells (for "answers": of the answers) that is trained on.
        kind: "random", "stratified" or "answers"; see `ModularConfig.split`.
        seed: seed of the task.
    """
    draw = generator(seed, "split")
    if kind == "answers":
        n_answers = int(answers.max()) + 1
        return (torch.randperm(n_answers, generator=draw) < round(fraction * n_answers))[answers]
    order = torch.randperm(len(answers), generator=draw)
    if kind == "stratified":
        # Rank each cell within its answer, then take the lowest ranks over all answers alike.
        shuffled = answers[order]
        within = torch.empty_like(order)
        by_answer = torch.argsort(shuffled, stable=True)
        counts = torch.bincount(shuffled)
        starts = torch.cumsum(counts, 0) - counts
        within[order[by_answer]] = torch.arange(len(answers)) - torch.repeat_interleave(starts, counts)
        return within < torch.round(fraction * counts)[answers]
    mask = torch.zeros(len(answers), dtype=torch.bool)
    mask[order[: round(fraction * len(answers))]] = True
    return mask


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
