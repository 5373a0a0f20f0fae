"""Answers that a task's cells could have had: shifts of the right answer, and answers to other pairs."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.core.randomness import generator
from mechmem.core.task import Task
from mechmem.tasks.groups import CyclicGroup, FiniteGroup

MOST_MAPS = 64
"""Most maps of the second operand: all slopes of a cyclic group of up to so many elements, else those nearest to 0."""

DRAWN = 30
"""Number of random renamings of the second operand where the inputs form no cyclic group."""


def shifts(task: Task) -> Int[Tensor, "shift class"]:
    """Return every shift of the classes but the identity: row s holds the class to which each class moves.

    In a group, class c moves to c∘s for every element s (classes outside the group stay); without one, the numbers of
    the classes stand in for a group, c to c + s mod the number of classes.
    """
    classes = torch.arange(task.n_classes)
    if isinstance(task.group, FiniteGroup):
        return task.group.product[:, 1:].T
    if not isinstance(task.group, CyclicGroup):
        return (classes + rearrange(classes[1:], "s -> s 1")) % task.n_classes
    elements = task.group.elements
    n = len(elements)
    moved = classes.repeat(n - 1, 1)
    place = torch.arange(n)
    moved[:, elements] = elements[(place + rearrange(place[1:], "s -> s 1")) % n]
    return moved


def shift_name(task: Task, shift: int) -> str:
    """Return one of `shifts` in words."""
    if isinstance(task.group, FiniteGroup):
        return f"the right answer · {task.group.element_names[shift + 1]}"
    if task.operation == "multiply" and isinstance(task.group, CyclicGroup):
        return f"the right answer · {int(task.group.elements[shift + 1])}"
    return f"the right answer + {shift + 1}"


def other_answers(task: Task) -> Int[Tensor, "map cell"]:
    """Return the right answer to (a, π(b)) for every cell (a, b) of the task and several maps π; −1 where not known.

    For a cyclic group the maps are b ↦ j·b (j other than 0 and 1), which makes the partitions a + j·b of another slope;
    otherwise they are the inverse (without a group, the reversed order) and random renamings.

    Raises:
        MissingNeedError: the inputs are not pairs.
    """
    n = task.symbols
    assert task.operands is not None
    a, b = task.operands.T
    answers = torch.full((n, n), -1)
    for ids in (task.train_ids, task.test_ids):
        true = task.true(ids)
        if true is not None:
            answers[tuple(task.operands[task.rows(ids)].T)] = true
    return torch.stack([answers[a, change[b]] for change in _maps(task, n)])


def _maps(task: Task, symbols: int) -> list[Int[Tensor, " symbol"]]:
    if isinstance(task.group, CyclicGroup):
        elements = task.group.elements
        n = len(elements)
        # The slopes nearest to 0 are among them, −1 in particular: neighbours of a smooth function share those.
        wanted = [j for j in range(2, n) if n <= MOST_MAPS or min(j, n - j) <= MOST_MAPS // 2]
        changes = torch.arange(symbols).repeat(len(wanted), 1)
        changes[:, elements] = elements[rearrange(torch.tensor(wanted), "j -> j 1") * torch.arange(n) % n]
        return list(changes)
    drawn = [torch.randperm(symbols, generator=generator(0, f"other answers {i}")) for i in range(DRAWN)]
    own = task.group.inverse if isinstance(task.group, FiniteGroup) else torch.arange(symbols).flip(0)
    return [own, *drawn]
