"""Tables on the grid of all pairs of group elements."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.tasks.groups import CyclicGroup


def cyclic_group(task: Task) -> CyclicGroup:
    """Return the task's group if it is cyclic.

    Raises:
        MissingNeedError: the task has no group, or another kind of group.
    """
    if not isinstance(task.group, CyclicGroup):
        seen = "no group is known" if task.group is None else f"this one is over {task.group}"
        raise MissingNeedError(f"this needs a task over a cyclic group; {seen}")
    return task.group


def grid_rows(task: Task) -> Int[Tensor, "n n"]:
    """Return the position in `task.ids` of every pair of group elements, in the order of the group on both axes.

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


def answer_sign(task: Task) -> int:
    """Return s such that the answer to the pair at positions (a, b) of the group is at position a + s·b.

    Raises:
        MissingNeedError: the task's operation is not known.
    """
    signs = {"add": 1, "multiply": 1, "subtract": -1}
    if task.operation not in signs:
        raise MissingNeedError(f"this needs an operation, one of {', '.join(signs)}; the task's is {task.operation!r}")
    return signs[task.operation]
