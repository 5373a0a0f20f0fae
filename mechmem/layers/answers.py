"""Which answers are right: of probes and networks, on the training examples without augmentation and the test set."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.stats import Estimate, wilson
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.math.logits import NOT_FINITE, answers_of
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.config import SPLITS


class Marks:
    """What would be right on each of the four splits, in the order (sources, test_ids) of a task.

    Args:
        task: the task.

    Attributes:
        ids: the examples. Shape (example).
        member: whether an example is in a split; none is in one that is empty or not known. Shape (split, example).
    """

    def __init__(self, task: Task):
        train, test = task.sources, task.test_ids
        self.ids = torch.cat([train, test])
        self.member = torch.zeros(len(SPLITS), len(self.ids), dtype=torch.bool)
        self._wanted = torch.zeros(len(SPLITS), len(self.ids), dtype=torch.long)
        given, truth, held_out = task.given(train), task.true(train), task.true(test)
        if truth is not None:
            noisy, n = given != truth, len(train)
            for row, (who, labels) in enumerate(((~noisy, given), (noisy, given), (noisy, truth))):
                self.member[row, :n], self._wanted[row, :n] = who, labels
        if held_out is not None:
            self.member[-1, len(train) :], self._wanted[-1, len(train) :] = True, held_out

    def right(self, answers: Int[Tensor, "*layer example"]) -> Bool[Tensor, "*layer split example"]:
        """Return which answers are right in which split."""
        return (answers[..., None, :] == self._wanted) & self.member

    def counts(self, answers: Int[Tensor, "*layer example"]) -> Int[Tensor, "*layer split"]:
        """Return right answers of each split; −1 where it is empty, not known, or has an answer that is not finite."""
        found = self.right(answers).sum(-1)
        lost = ((answers[..., None, :] == NOT_FINITE) & self.member).any(-1) | ~self.member.any(-1)
        return torch.where(lost, -1, found)

    def both(
        self, one: Int[Tensor, "*layer example"], other: Int[Tensor, "*layer example"]
    ) -> Int[Tensor, "*layer split"]:
        """Return how many examples of each split both answer rightly; −1 as in `counts`."""
        lost = (self.counts(one) < 0) | (self.counts(other) < 0)
        return torch.where(lost, -1, (self.right(one) & self.right(other)).sum(-1))


def noise_fit(subject: Subject, answers: Int[Tensor, " source"]) -> Estimate | None:
    """Return the share of given labels carrying noise that a network answers, on its own training examples.

    These are the wrong labels; or all of them, where the right ones are no more than chance would make them: then they
    are as random as the others. Fixed augmented views are training examples of their own. With a new view at every step
    the examples are taken as they are without augmentation.

    Args:
        subject: the network and its task.
        answers: what the network answers on `task.sources`.

    Returns:
        None where no label is wrong, or it is not known which.
    """
    task = subject.task
    ids = task.train_ids
    truth, given = task.true(ids), task.given(ids)
    if truth is None or bool((truth == given).all()):
        return None
    if not torch.equal(ids, task.sources):
        answers = answers_of(logits_of(subject.model, task, ids, subject.roles.output))
    noisy = truth != given
    clean = wilson(int((~noisy).sum()), len(ids))
    assert clean is not None
    counted = torch.ones_like(noisy) if clean.low <= 1 / task.n_classes else noisy
    return wilson(int((answers == given)[counted].sum()), int(counted.sum()))
