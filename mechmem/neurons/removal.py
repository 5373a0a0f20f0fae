"""Effect of a single neuron on the predictions, without a forward pass: the logits must be linear in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.task import Task
from mechmem.math.comparisons import means_over_answers
from mechmem.math.logits import margins
from mechmem.models.reading.linear_readout import LinearReadout
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import labelled_splits, training_set


@record
@dataclasses.dataclass(frozen=True)
class RemovalEffect:
    """Effect of ablating one neuron on one split.

    Attributes:
        split: the split; margins and accuracies refer to its labels (given ones on "train_noisy" and "train").
        n: number of examples, 0 if the split is empty or unknown (all other figures are then None).
        accuracy: accuracy of the whole network, with its Wilson interval.
        accuracy_without: accuracy without the neuron, with its Wilson interval.
        accuracy_change: the second minus the first, with an interval bootstrapped over answers.
        margin_change: change of the mean margin (logit of the label minus the largest other) in logits, likewise.
        lost: number of examples predicted correctly only with the neuron.
        gained: number of examples predicted correctly only without it.
    """

    split: str
    n: int = 0
    accuracy: Estimate | None = None
    accuracy_without: Estimate | None = None
    accuracy_change: Estimate | None = None
    margin_change: Estimate | None = None
    lost: int | None = None
    gained: int | None = None


@record
@dataclasses.dataclass(frozen=True, eq=False)
class RaisedCells:
    """The training examples whose given label a neuron supports most, the largest contribution first.

    Attributes:
        ids: ids of the examples. Shape (cell).
        operands: their pairs (a, b). Shape (cell, 2).
        given: their given labels. Shape (cell).
        true: their true labels, −1 if unknown. Shape (cell).
        contribution: h_m (w_my − mean_c w_mc), the neuron's contribution to the given label's logit minus its mean
            over classes. Shape (cell).
    """

    ids: Int[Tensor, " cell"]
    operands: Int[Tensor, "cell 2"]
    given: Int[Tensor, " cell"]
    true: Int[Tensor, " cell"]
    contribution: Float[Tensor, " cell"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: a, b, given, true, noisy (missing if the true label is unknown), contribution."""
        unknown = (self.true < 0).numpy()
        columns: dict[str, Any] = {
            "a": self.operands[:, 0].numpy(),
            "b": self.operands[:, 1].numpy(),
            "given": self.given.numpy(),
        }
        columns["true"] = pd.arrays.IntegerArray(self.true.numpy(), unknown)
        columns["noisy"] = pd.arrays.BooleanArray((self.true != self.given).numpy(), unknown)
        columns["contribution"] = self.contribution.numpy()
        return pd.DataFrame(columns)


def removal_effects(task: Task, last: LinearReadout, m: int) -> Iterator[RemovalEffect]:
    """Yield the effect on each split of ablating neuron m (setting its activation to 0 on every example)."""
    without = last.logits - torch.outer(last.hidden[:, m], last.weights[m])
    known = {split.name: split for split in (training_set(task), *labelled_splits(task))}
    # The whole training set where it is not known which labels are wrong.
    for name in SPLITS if task.noisy is not None else ("train", *SPLITS):
        split = known.get(name)
        if split is None:
            yield RemovalEffect(name)
            continue
        rows = task.rows(split.ids)
        before, after = margins(last.logits[rows], split.labels), margins(without[rows], split.labels)
        right, still = last.logits[rows].argmax(1) == split.labels, without[rows].argmax(1) == split.labels
        changes = torch.stack([still.double() - right.double(), (after - before).double()]).numpy()
        # Cells with the same answer are not independent, so answers are resampled.
        change, margin_change = means_over_answers(changes, split.truth.numpy())
        yield RemovalEffect(
            split=name,
            n=len(rows),
            accuracy=proportion(right),
            accuracy_without=proportion(still),
            accuracy_change=change,
            margin_change=margin_change,
            lost=int((right & ~still).sum()),
            gained=int((still & ~right).sum()),
        )


def raised_cells(task: Task, last: LinearReadout, m: int, count: int) -> RaisedCells:
    """Return the training examples whose given label neuron m supports most.

    Args:
        task: a task whose inputs are pairs.
        last: the readout of the neuron's layer.
        m: number of the neuron.
        count: most examples to return; those that the neuron does not support are left out.
    """
    assert task.operands is not None
    given, rows = task.given(task.train_ids), task.rows(task.train_ids)
    weight = last.weights[m]
    raised = last.hidden[rows, m] * (weight[given] - weight.mean())
    top = torch.argsort(raised, descending=True, stable=True)[: min(count, int((raised > 0).sum()))]
    ids = task.train_ids[top]
    # A task returns true labels only if it knows those of all given ids, so each id is asked for alone.
    truth = [task.true(ids[place : place + 1]) for place in range(len(ids))]
    known = torch.tensor([-1 if label is None else int(label) for label in truth], dtype=torch.long)
    return RaisedCells(ids, task.operands[rows[top]], given[top], known, raised[top])
