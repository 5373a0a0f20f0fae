"""Losses and accuracies of a network on the four splits."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.roles import Output
from mechmem.core.task import Task
from mechmem.models.reading.forward import logits_of


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of a network.

    Attributes:
        row: plain values per split: `<split>` the accuracy and `<split>_loss` the mean cross-entropy in nats
            (None where the split is empty or not known), `train_loss` over the training set in the loss's own units.
        given: whether the prediction is the given label, per id of the task.
        true: whether the prediction is the true label, per id of the task (False where the truth is not known).
    """

    row: dict[str, float | None]
    given: Bool[Tensor, " example"]
    true: Bool[Tensor, " example"]


def evaluate(model: nn.Module, task: Task, loss: str = "cross_entropy", output: Output = Output()) -> Evaluation:
    """Run the network over every id once, and score it on the four splits.

    Args:
        model: the network.
        task: its task.
        loss: the training loss ("cross_entropy" or "mse"), for `train_loss`.
        output: where the logits stand in what the network returns.
    """
    logits = logits_of(model, task, task.ids, output)
    prediction = logits.argmax(1)
    given = task.given(task.ids)
    known = [task.true(ids) for ids in (task.train_ids, task.test_ids)]
    truth = torch.full_like(given, -1)
    for ids, labels in zip((task.train_ids, task.test_ids), known, strict=True):
        if labels is not None:
            truth[task.rows(ids)] = labels
    row: dict[str, float | None] = {
        "train_loss": float(loss_of(logits[task.rows(task.train_ids)], given[task.rows(task.train_ids)], loss))
    }
    for name, split, labels in (
        ("train_clean", "train_clean", given),
        ("train_noisy", "train_noisy", given),
        ("train_noisy_true", "train_noisy", truth),
        ("test", "test", truth),
    ):
        ids = task.splits[split]
        if ids is None or not len(ids):
            row[name] = row[f"{name}_loss"] = None
            continue
        rows = task.rows(ids)
        row[name] = float((prediction[rows] == labels[rows]).double().mean())
        row[f"{name}_loss"] = float(F.cross_entropy(logits[rows].double(), labels[rows]))
    return Evaluation(row, prediction == given, prediction == truth)


def loss_of(logits: Float[Tensor, "example class"], given: Int[Tensor, " example"], loss: str) -> Float[Tensor, ""]:
    """Mean loss over examples: cross-entropy, or squared error on one-hot targets averaged over classes too."""
    if loss == "cross_entropy":
        return F.cross_entropy(logits, given)
    return F.mse_loss(logits, F.one_hot(given, logits.shape[1]).to(logits.dtype))
