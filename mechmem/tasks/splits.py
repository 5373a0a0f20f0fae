"""Ways to choose which cells are trained on."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.randomness import generator
from mechmem.tasks.config import SplitKind


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
