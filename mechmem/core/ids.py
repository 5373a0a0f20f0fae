"""Checks and conversion of lists of example ids."""

from __future__ import annotations

import numpy as np
import torch
from einops import reduce
from jaxtyping import Int
from torch import Tensor

from mechmem.core.task import Ids, Task, whole_ids
from mechmem.errors import ConfigError


def check_ids(task: Task, ids: Ids, name: str = "ids") -> Int[Tensor, " example"]:
    """Return a list of a task's example ids as a tensor; `name` is the caller's name for the argument.

    Raises:
        ConfigError: it is not a one-dimensional list of at least one whole number. A mask is refused too.
        UnknownNameError: an id is not one of the task's.
    """
    found = as_ids(ids, name)
    task.rows(found)
    return found


def as_ids(ids: Ids, name: str = "ids") -> Int[Tensor, " example"]:
    """Return a list of example ids of any task as a tensor.

    Raises:
        ConfigError: it is not a one-dimensional list of at least one whole number. A mask is refused too.
    """
    return whole_ids(ids, name, some=True)


def check_distinct(task: Task, ids: Ids, name: str = "ids") -> Int[Tensor, " example"]:
    """Return a list of distinct ids of a task as a tensor.

    Raises:
        ConfigError: it is not a list of ids (see `check_ids`), or an id is repeated.
        UnknownNameError: an id is not one of the task's.
    """
    found = check_ids(task, ids, name)
    values, counts = found.unique(return_counts=True)
    if len(values) < len(found):
        raise ConfigError(f"{name} must be distinct ids, but {int(values[counts > 1][0])} is repeated")
    return found


def check_sources(task: Task, ids: Ids, name: str = "ids") -> Int[Tensor, " source"]:
    """Return a list of distinct ids of a task's training examples without augmentation, as a tensor.

    Raises:
        ConfigError: it is not a list of distinct ids (see `check_distinct`), or an id belongs to no such example.
        UnknownNameError: an id is not one of the task's.
    """
    found = check_distinct(task, ids, name)
    strangers = found[~torch.isin(found, task.sources)]
    if len(strangers):
        raise ConfigError(f"{name} must be training examples, but {int(strangers[0])} is not one")
    return found


def one_or_more(ids: Ids | int) -> Int[Tensor, "*example"]:
    """Return example ids of any task, or a single id as a scalar, as a tensor.

    Raises:
        ConfigError: they are not whole numbers ≥ 0.
    """
    try:
        found = ids if isinstance(ids, Tensor) else torch.tensor(np.asarray(ids))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"example ids are whole numbers, got a {type(ids).__name__}") from error
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex() or found.ndim > 1:
        raise ConfigError(f"example ids are whole numbers, got {found.dtype} of shape {tuple(found.shape)}")
    found = found.long()
    if found.numel() and int(reduce(found.reshape(-1), "example ->", "min")) < 0:
        raise ConfigError(f"example ids are at least 0, got {int(found.min())}")
    return found
