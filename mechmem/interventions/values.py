"""Replacement values of edits: zeros, means, other examples' values, given tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError
from mechmem.interventions.layouts import Layout
from mechmem.models.hooks.hooking import firing
from mechmem.models.hooks.running import device_of
from mechmem.models.reading.activations import activations
from mechmem.models.reading.stores import Mean

Value = Literal["zero", "mean", "resample"]
Values = Callable[[slice], Tensor]
"""Value of a point for a block of examples: (example, …), the same for each example (…), or a number."""


def replacement_values(
    subject: Subject,
    layout: Layout,
    value: str | float | Shaped[Tensor | np.ndarray, ...],
    ids: Int[Tensor, " example"],
    seed: int,
) -> Values:
    """Return the replacement values at a point, as a function of a block of examples.

    Args:
        subject: the network to run.
        layout: layout of the hook point.
        value: "zero"; "mean" over the training examples; "resample", the values of another training example, drawn
            once per example for all points; a number; or an array, (example, …) or one for all examples (…).
        ids: the examples.
        seed: seed of the resampling.

    Raises:
        ConfigError: a value is infinite in the network's precision.
    """
    _check_size(subject.model, value)
    device, point = device_of(subject.model), layout.point
    if isinstance(value, Tensor | np.ndarray):
        given = as_tensor(value).detach().to(device)
        each = given.ndim > 0 and len(given) == len(ids) and given.ndim == len(layout.shape) + 1
        return (lambda block: given[block]) if each else (lambda block: given)
    if value == "mean":
        mean = activations(subject, firing(point)[0], reduce=Mean)[point].to(device)
        return lambda block: mean
    if value == "resample":
        others = donors(subject.task, seed)[subject.task.rows(ids)]
        chosen = subject.task.ids[others]
        return lambda block: held_at(subject, [point], chosen[block])[point]
    constant = torch.tensor(0.0 if value == "zero" else float(value), device=device)
    return lambda block: constant


def _check_size(model: nn.Module, value: str | float | Shaped[Tensor | np.ndarray, ...]) -> None:
    if isinstance(value, str):
        return
    dtype = next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)
    values = as_tensor(value if isinstance(value, Tensor | np.ndarray) else np.asarray(value, float)).double()
    greatest = values.abs().max() if values.numel() else 0.0
    if float(greatest) > torch.finfo(dtype).max:
        most = f"at most {torch.finfo(dtype).max:.1e} in a network of {str(dtype).removeprefix('torch.')}"
        raise ConfigError(f"the value of an edit must be {most}, got {float(greatest):.1e}")


def as_tensor(values: Shaped[Tensor | np.ndarray, ...]) -> Shaped[Tensor, ...]:
    """Return an array as a tensor; a copy, because torch warns about read-only arrays."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.array(values))


def held_at(subject: Subject, points: Sequence[str], ids: Int[Tensor, " example"]) -> dict[str, Tensor]:
    """Return a network's activations at points, by firing, on the network's device. Shape (example, …) each."""
    held = activations(subject, list(dict.fromkeys(firing(point)[0] for point in points)), ids)
    return {point: held[point].to(device_of(subject.model)) for point in points}


def donors(task: Task, seed: int) -> Int[Tensor, " example"]:
    """Return, for every id of the task, the row of a random other training example.

    Raises:
        ConfigError: there are fewer than two training examples.
    """
    train = task.rows(task.train_ids)
    if len(train) < 2:
        raise ConfigError("resampling needs at least two training examples")
    place = torch.full((len(task.ids),), len(train))
    place[train] = torch.arange(len(train))
    own = (place < len(train)).long()
    draw = torch.rand(len(task.ids), generator=generator(seed, "resample ablation"), dtype=torch.float64)
    chosen = (draw * (len(train) - own)).long()
    # A training example has one row fewer to choose from: its own is skipped.
    return train[chosen + (chosen >= place)]
