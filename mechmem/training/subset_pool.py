"""Parallel training of subset networks in several processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from mechmem.core.processes import done_in_processes
from mechmem.training.subset_trainer import Answers, Plan, SubsetTrainer


def in_processes(
    plan: Plan, units: Sequence[range], workers: int, report: Callable[[int], None]
) -> Generator[tuple[range, Answers]]:
    """Train networks one by one in processes of one thread each; yield their numbers and results as they finish.

    Raises:
        TrainingFailedError: a loss is not a number, or a process died.
    """
    calls = {unit: functools.partial(_train, plan, unit[0]) for unit in units}
    # As arrays, because a pool sends tensors through shared memory, which may be scarce.
    for unit, (member, predictions, logits) in done_in_processes(calls, workers, "trained subset networks"):
        report(plan.config.steps)
        yield unit, Answers(_tensor(member), _tensor(predictions), None if logits is None else _tensor(logits))


@functools.lru_cache(maxsize=1)
def _trainer(plan: Plan) -> SubsetTrainer:
    return SubsetTrainer(plan)


def _train(plan: Plan, number: int) -> tuple[object, object, object]:
    answers = _trainer(plan).one(number, lambda _: None)
    logits = answers.test_logits
    return answers.member.numpy(), answers.predictions.numpy(), None if logits is None else logits.numpy()


def _tensor(array: object) -> Tensor:
    return torch.as_tensor(array)
