"""Share of the labels with noise that a network has fitted."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.stats import Estimate, wilson
from mechmem.core.subject import Subject
from mechmem.math.logits import answers_of
from mechmem.models.reading.forward import logits_of


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
    clean = wilson(int((~noisy).sum()), len(ids))
    assert clean is not None
    counted = torch.ones_like(noisy) if clean.low <= 1 / task.n_classes else noisy
    return wilson(int((answers == task.given(ids))[counted].sum()), int(counted.sum()))
