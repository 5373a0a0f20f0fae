"""Losses and accuracies of a network on the four splits."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.roles import Output
from mechmem.core.task import Task
from mechmem.math.logits import answers_of, correct
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import labelled_splits


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of a network.

    Attributes:
        row: plain values per split: `<split>` the accuracy and `<split>_loss` the mean cross-entropy in nats
            (None if the split is empty or unknown), `train_loss` over the training set in the loss's own units.
        given: whether the prediction is the given label, per id of the task.
        true: whether the prediction is the true label, per id of the task (False if the true label is unknown).
    """

    row: dict[str, float | None]
    given: Bool[Tensor, " example"]
    true: Bool[Tensor, " example"]


def evaluate(model: nn.Module, task: Task, loss: str = "cross_entropy", output: Output = Output()) -> Evaluation:
    """Run the network on every id, and return its accuracies and losses on the four splits.

    Both are NaN on a split with a logit that is not finite.

    Args:
        model: the network.
        task: its task.
        loss: the training loss ("cross_entropy" or "mse"), for `train_loss`.
        output: position of the logits in the network's output.
    """
    logits = logits_of(model, task, task.ids, output)
    prediction = answers_of(logits)
    given = task.given(task.ids)
    truth = torch.full_like(given, -1)
    trained = task.rows(task.train_ids)
    row: dict[str, float | None] = {"train_loss": float(loss_of(logits[trained], given[trained], loss))}
    row |= {key: None for split in SPLITS for key in (split, f"{split}_loss")}
    for split in labelled_splits(task):
        rows = task.rows(split.ids)
        truth[rows] = split.truth
        row[split.name] = float(correct(prediction[rows], split.labels).mean())
        row[f"{split.name}_loss"] = float(F.cross_entropy(logits[rows].double(), split.labels))
    return Evaluation(row, prediction == given, prediction == truth)


def loss_of(logits: Float[Tensor, "example class"], given: Int[Tensor, " example"], loss: str) -> Float[Tensor, ""]:
    """Mean loss over examples: cross-entropy, or squared error on one-hot targets, also averaged over classes."""
    if loss == "cross_entropy":
        return F.cross_entropy(logits, given)
    return F.mse_loss(logits, F.one_hot(given, logits.shape[1]).to(logits.dtype))
