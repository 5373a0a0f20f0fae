"""Correct predictions of a network: their number on each split, and the share of wrong labels among them."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.roles import Output
from mechmem.core.stats import UNKNOWN, Estimate, proportion, wilson
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.math.logits import answers_of
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.splits import Marks


def split_hits(model: nn.Module, task: Task, output: Output = Output()) -> Int[Tensor, "2 split"]:
    """Return the number of correct predictions and of examples in each of the four splits.

    A split without examples or with unknown labels has 0 of 0; one with a logit that is not finite has −1 correct
    predictions.

    Args:
        model: the network; it is run in evaluation mode.
        task: its task.
        output: position of the logits in the model's output.
    """
    marks = Marks(task)
    predicted = torch.cat([answers_of(logits_of(model, task, ids, output)) for ids in (task.train_ids, task.test_ids)])
    return torch.stack([marks.counts(predicted).where(marks.n > 0, 0), marks.n])


def accuracy_row(hits: int, n: int) -> dict[str, float]:
    """Return value, low, high (95 % Wilson interval) and n of an accuracy; NaN if `split_hits` has none."""
    found = wilson(hits, n) if hits >= 0 else None
    return dataclasses.asdict(found or dataclasses.replace(UNKNOWN, n=n))


def noise_fit(subject: Subject, answers: Int[Tensor, " source"]) -> Estimate | None:
    """Return the share of given labels with noise that a network predicts, on its own training examples.

    These are the wrong labels; if no more labels are correct than by chance, all labels count as noise. Each fixed
    augmented view is a training example. With a new view at every step the examples are used without augmentation.

    Args:
        subject: the network and its task.
        answers: the network's predictions on `task.sources`.

    Returns:
        the share, or None if no label is wrong or it is not known which.
    """
    task = subject.task
    ids, noisy = task.train_ids, task.noisy
    if noisy is None or not noisy.any():
        return None
    if not torch.equal(ids, task.sources):
        answers = answers_of(logits_of(subject.model, task, ids, subject.roles.output))
    clean = proportion(~noisy)
    assert clean is not None
    counted = torch.ones_like(noisy) if clean.low <= 1 / task.n_classes else noisy
    return proportion((answers == task.given(ids))[counted])
