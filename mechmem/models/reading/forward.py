"""Logits of a network on many examples, computed in row blocks."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.inputs import run_on
from mechmem.core.roles import Output
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MechmemError, NotFiniteError
from mechmem.math.blocks import blocks
from mechmem.math.logits import all_finite, refuse_probabilities
from mechmem.models.hooks.hooking import warn_of_leftovers
from mechmem.models.hooks.running import block_rows, device_of, evaluating, full_precision
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.input_types import RUNNING_ERRORS, check_runs
from mechmem.models.reading.separate import check_separate

SAMPLE = 64
"""Examples that are looked at where few are measured."""


def logits_of(
    model: nn.Module,
    task: Task,
    ids: Int[Tensor, " example"],
    output: Output = Output(),
) -> Float[Tensor, "example class"]:
    """Return the model's logits on these ids, on the CPU, computed in row blocks in the model's evaluation mode.

    Raises:
        ConfigError: the model does not run on the inputs, the logits are not one row per example and one column per
            class, or they are probabilities.
        RoleError: there are no logits where `output` says.
        UnsteadyNetworkError: the model is random in evaluation mode, or examples act on each other in it.

    Warns:
        LeftoverHooksWarning: hooks that were left on the model act in the pass.
    """
    warn_of_leftovers(model)
    check_separate(model, task, ids, block_rows(model), output)
    device, layers = device_of(model), mask_layers(model)
    logits = torch.empty(0, task.n_classes)
    with torch.no_grad(), evaluating(model):
        for block in blocks(len(ids), block_rows(model)):
            inputs = task.batch(ids[block])[0].to(device)
            try:
                with of_examples(layers, task.source(ids[block])):
                    returned = run_on(model, inputs)
            except RUNNING_ERRORS as error:
                if not isinstance(error, MechmemError):
                    check_runs(model, task, ids[block])
                raise
            found = read_logits(returned, output, block.stop - block.start, task.n_classes)
            if not block.start:
                # Filled block by block: at large p, concatenating a list of blocks would need the memory twice.
                logits = torch.empty(len(ids), task.n_classes, dtype=found.dtype)
            logits[block] = found
    refuse_probabilities(logits)
    return logits


def read_logits(returned: Any, output: Output, rows: int, classes: int) -> Float[Tensor, "row class"]:
    """Return the logits in the output of a model on so many examples.

    Raises:
        ConfigError: the logits are not of shape (example, class).
        RoleError: `output` does not lead to logits.
    """
    logits = output.read(returned)
    if logits.is_complex():
        raise ConfigError(
            f"the model must return logits that are real numbers, but returned complex ones, {logits.dtype}"
        )
    expected, found = (rows, classes), tuple(logits.shape)
    if found != expected:
        raise ConfigError(f"the model must return logits of shape (example, class) = {expected}, but returned {found}")
    return full_precision(logits)


def all_logits(subject: Subject) -> Float[Tensor, "example class"]:
    """Return logits on every id of the task, in the order of `task.ids`; the network runs once per subject and state.

    Raises:
        NotFiniteError: a logit is NaN or infinite.

    Warns:
        LeftoverHooksWarning: hooks that were left on the model act in the pass.
    """
    logits = raw_logits(subject)
    subject.memo("logits are finite", lambda: check_logits(logits, subject.task.ids))
    return logits


def check_logits(logits: Float[Tensor, "example class"], ids: Int[Tensor, " example"]) -> None:
    """Refuse logits that are not finite, and probabilities.

    Raises:
        NotFiniteError: a logit is NaN or infinite; the message names the first example.
        ConfigError: they are probabilities.
    """
    if all_finite(logits):
        return refuse_probabilities(logits)
    lost = ids[(~logits.isfinite()).any(1)]
    raise NotFiniteError(
        f"the logits of {len(lost)} of {len(ids)} examples are NaN or infinite (the first is example {int(lost[0])}): "
        "there is no answer to count"
    )


def check_scale(subject: Subject) -> None:
    """Refuse a network that returns probabilities, by some training examples, before few others are measured.

    Raises:
        ConfigError: it does; see also `logits_of`.
    """
    sample = subject.task.train_ids[:SAMPLE]
    subject.memo("returns logits", lambda: logits_of(subject.model, subject.task, sample, subject.roles.output))


def raw_logits(subject: Subject) -> Float[Tensor, "example class"]:
    """Return the same logits as `all_logits`, also if some are not finite.

    Warns:
        LeftoverHooksWarning: hooks that were left on the model act in the pass.
    """
    warn_of_leftovers(subject.model)
    return subject.memo(
        "logits", lambda: logits_of(subject.model, subject.task, subject.task.ids, subject.roles.output)
    )
