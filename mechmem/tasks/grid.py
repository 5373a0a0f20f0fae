"""Tables on the grid of all pairs of group elements."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from mechmem.contracts import Task
from mechmem.errors import MissingNeedError
from mechmem.math.fourier import from_modes, grid_modes
from mechmem.tasks.groups import CyclicGroup


def cyclic_group(task: Task) -> CyclicGroup:
    """Return the task's group, where it is cyclic.

    Raises:
        MissingNeedError: the task has no group, or another kind of group.
    """
    if not isinstance(task.group, CyclicGroup):
        raise MissingNeedError("this needs a task over a cyclic group")
    return task.group


def grid_rows(task: Task) -> Int[Tensor, "n n"]:
    """Return, in the order of the group on both axes, the position in `task.ids` of every pair of its elements.

    Raises:
        MissingNeedError: the group is not cyclic, or the task lacks a pair.
    """
    elements = cyclic_group(task).elements
    assert task.operands is not None
    symbols = task.symbols
    code = task.operands[:, 0] * symbols + task.operands[:, 1]
    wanted = rearrange(elements, "a -> a 1") * symbols + elements
    row_of = torch.full((symbols * symbols,), -1)
    row_of[code] = torch.arange(len(code))
    rows = row_of[wanted]
    if (rows < 0).any():
        raise MissingNeedError("this needs every pair of symbols among the task's ids")
    return rows


def on_grid(task: Task, values: Float[Tensor, "example class"]) -> Float[Tensor, "n n class"]:
    """Arrange values of `task.ids` on the grid of pairs of group elements."""
    return values[grid_rows(task)]


def masked_modes(
    task: Task,
    logits: Float[Tensor, "example class"],
    keep: Callable[[Complex[Tensor, "n half class"]], Bool[Tensor, "n half"]],
) -> Float[Tensor, "example class"]:
    """Rebuild logits from some of their 2-D Fourier modes over both operands.

    Args:
        task: whose grid the modes are taken on.
        logits: one row per id of the task.
        keep: tells from the one-sided spectrum (see `fourier.grid_modes`) which modes stay.

    Returns:
        float64 logits per id; an id off the grid (a factor of 0 under multiplication) keeps its own.
    """
    rows = grid_rows(task)
    rebuilt = logits.double()
    modes = grid_modes(rebuilt[rows])
    table = from_modes(modes * rearrange(keep(modes), "n half -> n half 1"))
    return rebuilt.index_copy(0, rearrange(rows, "a b -> (a b)"), rearrange(table, "a b classes -> (a b) classes"))
