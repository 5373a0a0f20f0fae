"""Losses and accuracies of a network on the four splits."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from mechmem.core.roles import Output
from mechmem.core.task import Task
from mechmem.math.blocks import blocks
from mechmem.math.logits import answers_of, correct
from mechmem.models.hooks.running import block_rows
from mechmem.models.reading.forward import logits_of
from mechmem.models.reading.separate import check_separate
from mechmem.models.reading.trial_network import random_state_kept
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import labelled_splits

BLOCK_ELEMENTS = 2**16
"""Logits whose probabilities are worked out at once: half a megabyte in float64."""


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
    splits = labelled_splits(task)
    places = [task.rows(split.ids) for split in splits]
    labels = torch.zeros(len(splits), len(logits), dtype=torch.long)
    for split, rows, own in zip(splits, places, labels, strict=True):
        own[rows] = split.labels
    for split, rows, found in zip(splits, places, _log_probabilities(logits, labels), strict=True):
        truth[rows] = split.truth
        row[split.name] = float(correct(prediction[rows], split.labels).mean())
        # Averaged as in the cross-entropy of all logits, whose sums are taken in this order.
        own = rearrange(found[rows], "example -> example 1")
        row[f"{split.name}_loss"] = float(F.nll_loss(own, torch.zeros_like(rows)))
    return Evaluation(row, prediction == given, prediction == truth)


def check_runs(model: nn.Module, task: Task, output: Output = Output()) -> None:
    """Refuse a network that cannot be evaluated on a task, by a pass over its first examples.

    Args:
        model: the network; nothing of it changes, nor does the state of random numbers.
        task: the task.
        output: position of the logits in the network's output.

    Raises:
        ConfigError: see `logits_of`.
        RoleError: there are no logits where `output` says.
        UnsteadyNetworkError: the model is random in evaluation mode, or examples act on each other in it.
    """
    rows = block_rows(model)
    with random_state_kept(model):
        check_separate(model, task, task.ids, rows, output)
        logits_of(model, task, task.ids[:rows], output)


def _log_probabilities(
    logits: Float[Tensor, "example class"], labels: Int[Tensor, "split example"]
) -> Float64[Tensor, "split example"]:
    """Return the log-probabilities of every example's label in each split."""
    found = torch.empty(labels.shape, dtype=torch.float64)
    # In blocks that stay in cache: in float64 all logits at once are read from memory three times.
    for block in blocks(len(logits), BLOCK_ELEMENTS // logits.shape[1]):
        log_p = logits[block].double().log_softmax(1)
        found[:, block] = log_p.gather(1, labels[:, block].T).T
    return found


def loss_of(logits: Float[Tensor, "example class"], given: Int[Tensor, " example"], loss: str) -> Float[Tensor, ""]:
    """Mean loss over examples: cross-entropy, or squared error on one-hot targets, also averaged over classes."""
    if loss == "cross_entropy":
        return F.cross_entropy(logits, given)
    # `F.one_hot` would make integers first, and check every label.
    one_hot = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return F.mse_loss(logits, one_hot.index_select(0, given))
