"""Number of correct predictions of a network on each split."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.roles import Output
from mechmem.core.stats import Estimate, wilson
from mechmem.core.task import Task
from mechmem.math.logits import answers_of
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import labelled_splits


def split_hits(model: nn.Module, task: Task, output: Output = Output()) -> Int[Tensor, "2 split"]:
    """Return the number of correct predictions and of examples in each of the four splits.

    A split without examples or with unknown labels has 0 of 0; one with a logit that is not finite has −1 correct
    predictions.

    Args:
        model: the network; it is run in evaluation mode.
        task: its task.
        output: position of the logits in the model's output.
    """
    answers = torch.full((len(task.ids),), -1)
    for ids in (task.train_ids, task.test_ids):
        logits = logits_of(model, task, ids, output)
        answers[task.rows(ids)] = answers_of(logits)
    found = torch.zeros(2, len(SPLITS), dtype=torch.long)
    for split in labelled_splits(task):
        own = answers[task.rows(split.ids)]
        hits = -1 if (own < 0).any() else int((own == split.labels).sum())
        found[:, SPLITS.index(split.name)] = torch.tensor([hits, len(own)])
    return found


def accuracy_row(hits: int, n: int) -> dict[str, float]:
    """Return value, low, high (95 % Wilson interval) and n of an accuracy; NaN if `split_hits` has none."""
    found = wilson(hits, n) if hits >= 0 else None
    return dataclasses.asdict(found or Estimate(math.nan, math.nan, math.nan, n))
