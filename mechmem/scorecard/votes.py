"""Majority votes of the training labels: predictions for the test set without any network."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.task import Task
from mechmem.tasks.groups import CyclicGroup


@record
@dataclasses.dataclass(frozen=True)
class LabelVote:
    """A vote of the given training labels.

    Attributes:
        name: "by answer" or "by group".
        knows: prior knowledge that the vote uses.
        test: its accuracy on the test set; None if the vote is impossible.
        slope: for the vote by group, the slope j of a + j·b that the labels chose; None otherwise.
        reason: why the vote is impossible, or "".
    """

    name: str
    knows: tuple[str, ...]
    test: Estimate | None
    slope: int | None = None
    reason: str = ""


BY_ANSWER = ("given_labels", "operation", "true_train_labels")
SAME_ANSWERS = ("given_labels", "true_train_labels")
"""Of a task without an operation, whose true answers alone say which inputs share one."""
BY_GROUP = ("given_labels", "input_group", "pairs")


def vote_by_answer(task: Task) -> LabelVote:
    """Predict for each test cell the most frequent label of training cells with the same true answer.

    A test cell whose answer has no training cells counts as wrong; ties go to the lowest class.
    """
    knows = BY_ANSWER if task.operation is not None else SAME_ANSWERS
    truth = task.true(task.train_ids)
    wanted = task.true(task.test_ids)
    if truth is None or wanted is None:
        return LabelVote("by answer", knows, None, reason="true training labels are not known")
    prediction = _majority(truth, task.given(task.train_ids), wanted, task.n_classes, task.n_classes)
    return LabelVote("by answer", knows, proportion(prediction == wanted))


def vote_by_group(task: Task) -> LabelVote:
    """Pick the slope j whose lines a + j·b = const carry the most uneven labels, then vote along those lines.

    This uses the group of the inputs, not the operation. Cells with an operand outside the group (a factor of 0) form
    one line of their own. Unevenness is Σ count² over (line, label), highest if each line has a single label.
    """
    if not isinstance(task.group, CyclicGroup) or task.operands is None:
        return LabelVote("by group", BY_GROUP, None, reason="the task has no cyclic group")
    n = len(task.group.elements)
    position = task.group.logarithm[task.operands]
    given = task.given(task.train_ids)
    train, test = task.rows(task.train_ids), task.rows(task.test_ids)

    def lines(slope: int) -> Int[Tensor, " cell"]:
        a, b = position.unbind(1)
        return torch.where((a < 0) | (b < 0), n, (a + slope * b) % n)

    def unevenness(slope: int) -> int:
        cells = lines(slope)[train] * task.n_classes + given
        return int(torch.bincount(cells).square().sum())

    slope = max(range(n), key=unevenness)
    line = lines(slope)
    prediction = _majority(line[train], given, line[test], n + 1, task.n_classes)
    wanted = task.true(task.test_ids)
    assert wanted is not None
    return LabelVote("by group", BY_GROUP, proportion(prediction == wanted), slope)


def _majority(
    key: Int[Tensor, " train"], labels: Int[Tensor, " train"], wanted: Int[Tensor, " test"], n_keys: int, n_classes: int
) -> Int[Tensor, " test"]:
    """Return the most frequent label of each wanted key, or −1 for a key that was never seen."""
    counts = torch.bincount(key * n_classes + labels, minlength=n_keys * n_classes).reshape(n_keys, n_classes)
    best = torch.where(counts.sum(1) > 0, counts.argmax(1), -1)
    return best[wanted]
