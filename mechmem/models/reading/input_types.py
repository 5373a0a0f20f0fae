"""Checks that a network runs on the task's inputs."""

from __future__ import annotations

import re

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.in_words import reason
from mechmem.core.inputs import inputs_in_words, run_on
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MechmemError
from mechmem.models.hooks.running import device_of, evaluating
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.tasks.sequences import SequenceTask

RUNNING_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)
"""What torch and networks raise on inputs that do not fit."""


def check_input_type(model: nn.Module, task: Task, ids: Int[Tensor, " example"], *, looked_up: bool = False) -> None:
    """Refuse a network that does not run, if its inputs are of another type than its parameters.

    A network may convert its inputs, or look them up as indices, so the type alone is no reason.

    Args:
        model: the network.
        task: its task.
        ids: the examples that are to go through it; the first is tried.
        looked_up: whether whole numbers are known to be looked up, and need no trial.

    Raises:
        ConfigError: inputs and parameters differ in type, and the network raised an error about a type.
    """
    inputs = task.batch(ids[:1])[0]
    if not isinstance(inputs, Tensor):
        return
    types = {each.dtype for each in model.parameters()}
    if not types or inputs.dtype in types or (looked_up and not inputs.is_floating_point()):
        return
    try:
        with torch.no_grad(), evaluating(model), of_examples(mask_layers(model), task.source(ids[:1])):
            run_on(model, inputs.to(device_of(model)))
    except MechmemError:
        raise
    except Exception as error:
        # A network that fails for another reason fails in the pass that was asked for.
        if not re.search(r"\btype|dtype", str(error)):
            return
        own = ", ".join(sorted(map(_named, types)))
        raise ConfigError(
            f"the task's inputs are {_named(inputs.dtype)} and the network's parameters {own}, and it does not run "
            f"({reason(error)}); convert one to the other, inputs.to(torch.{own.partition(',')[0]}) or model.double()"
        ) from error


def check_runs(model: nn.Module, task: Task, ids: Int[Tensor, " example"]) -> None:
    """Refuse a network that does not run on these examples; for use where a pass has failed.

    Raises:
        ConfigError: it fails by itself, whatever hooks were on it before; the message has the first line of its error.
    """
    inputs = task.batch(ids)[0]
    try:
        with torch.no_grad(), evaluating(model), of_examples(mask_layers(model), task.source(ids)):
            run_on(model, inputs.to(device_of(model)))
    except (MechmemError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        hint = "; a language model is the network of this task as mm.NextToken(model, task)"
        raise ConfigError(
            f"the network does not run on the task's inputs, {inputs_in_words(inputs)}: {reason(error)}"
            f"{hint if isinstance(task, SequenceTask) else ''}"
        ) from error


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
