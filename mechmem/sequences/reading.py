"""Tasks of sequences, and the logits of all tokens that a network chooses from."""

from __future__ import annotations

import copy

from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.models.networks.causal import NextToken, all_columns, check_causal
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.sequences import SequenceTask


def sequence_task(subject: Subject, what: str) -> SequenceTask:
    """Return a subject's task of sequences.

    Args:
        subject: the subject.
        what: what needs it, for the error.

    Raises:
        MissingNeedError: it has another task.
    """
    if not isinstance(subject.task, SequenceTask):
        raise MissingNeedError(f"{what} needs a task of sequences, and this is a {type(subject.task).__name__}")
    return subject.task


def columns_of(subject: Subject, task: SequenceTask) -> int:
    """Return the number of tokens that a network chooses from; a language model may know more than the task has.

    Raises:
        ConfigError: the network is not causal.
    """
    models = [module for module in subject.model.modules() if isinstance(module, NextToken)]
    return max((check_causal(module, task) for module in models), default=task.n_classes)


def logits_in(
    columns: int, subject: Subject, task: Task, ids: Int[Tensor, " example"]
) -> Float[Tensor, "example column"]:
    """Return logits of all tokens that a network chooses from, also those that the task does not have."""
    wider = copy.copy(task)
    wider.n_classes = columns
    with all_columns(subject.model):
        return logits_of(subject.model, wider, ids, subject.roles.output)
