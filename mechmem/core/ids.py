"""Lists of example ids, as they are given to a call."""

from __future__ import annotations

import numpy as np
import torch
from einops import reduce
from jaxtyping import Int
from torch import Tensor

from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError


def check_ids(task: Task, ids: Ids, name: str = "ids") -> Int[Tensor, " example"]:
    """Return a list of a task's example ids as a tensor; `name` is what the caller's argument is called.

    Raises:
        ConfigError: it is not at least one whole number, in one dimension. A mask is none.
        UnknownNameError: an id is not one of the task's.
    """
    found = as_ids(ids, name)
    task.rows(found)
    return found


def as_ids(ids: Ids, name: str = "ids") -> Int[Tensor, " example"]:
    """Return a list of example ids, of whatever task, as a tensor.

    Raises:
        ConfigError: it is not at least one whole number, in one dimension. A mask is none.
    """
    try:
        found = ids if isinstance(ids, Tensor) else torch.tensor(np.asarray(ids))
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.dtype == torch.bool and found.ndim == 1:
        raise ConfigError(f"{name} must be example ids, got a mask of {len(found)} values: task.ids[mask] are its ids")
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if found.ndim != 1 or not len(found) or not whole:
        seen = f"{type(ids).__name__} of shape {tuple(found.shape)}" if found.numel() else type(ids).__name__
        raise ConfigError(f"{name} must be at least one example id, whole numbers in one dimension; got a {seen}")
    return found.long().cpu()


def check_distinct(task: Task, ids: Ids, name: str = "ids") -> Int[Tensor, " example"]:
    """Return a list of different ids of a task as a tensor.

    Raises:
        ConfigError: it is no list of ids (see `check_ids`), or one is repeated.
        UnknownNameError: an id is not one of the task's.
    """
    found = check_ids(task, ids, name)
    values, counts = found.unique(return_counts=True)
    if len(values) < len(found):
        raise ConfigError(f"{name} are different ids, and {int(values[counts > 1][0])} is repeated")
    return found


def check_sources(task: Task, ids: Ids, name: str = "ids") -> Int[Tensor, " source"]:
    """Return a list of different training examples of a task, as they are without augmentation, as a tensor.

    Raises:
        ConfigError: it is no list of different ids (see `check_distinct`), or one is no such example's.
        UnknownNameError: an id is not one of the task's.
    """
    found = check_distinct(task, ids, name)
    strangers = found[~torch.isin(found, task.sources)]
    if len(strangers):
        raise ConfigError(f"{name} are training examples, and {int(strangers[0])} is none")
    return found


def one_or_more(ids: Ids | int) -> Int[Tensor, "*example"]:
    """Return ids of examples that need not be a task's, or a single one without an axis, as a tensor.

    Raises:
        ConfigError: they are not whole numbers of at least 0.
    """
    try:
        found = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"example ids are whole numbers, got a {type(ids).__name__}") from error
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex() or found.ndim > 1:
        raise ConfigError(f"example ids are whole numbers, got {found.dtype} of shape {tuple(found.shape)}")
    if found.numel() and int(reduce(found.reshape(-1), "example ->", "min")) < 0:
        raise ConfigError(f"example ids are at least 0, got {int(found.min())}")
    return found.long()
