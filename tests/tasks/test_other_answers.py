"""Shifts of the right answer and answers to other pairs, against their definitions."""

import numpy as np
import pytest
import torch

from mechmem.tasks.arrays import ArrayTask
from mechmem.tasks.config import GroupConfig, ModularConfig
from mechmem.tasks.grid_tasks import GroupTask, ModularTask
from mechmem.tasks.groups import FiniteGroup
from mechmem.tasks.other_answers import MOST_MAPS, other_answers, shift_name, shifts


def test_shifts_of_addition_add():
    task = ModularTask(ModularConfig(op="subtract", p=7))
    expected = [[(c + s) % 7 for c in range(7)] for s in range(1, 7)]
    assert shifts(task).tolist() == expected and shift_name(task, 2) == "the right answer + 3"


def test_shifts_of_multiplication_multiply_and_leave_zero():
    task = ModularTask(ModularConfig(op="multiply", p=7))
    found = shifts(task).tolist()
    assert sorted(found) == sorted([[c * s % 7 for c in range(7)] for s in range(2, 7)])
    factor = found[3][1]
    assert shift_name(task, 3) == f"the right answer · {factor}"


def test_shifts_in_a_group_multiply_from_the_right():
    task, group = GroupTask(GroupConfig(group="S3")), FiniteGroup("S3")
    found = shifts(task)
    assert found.tolist() == [[int(group.product[c, s]) for c in range(6)] for s in range(1, 6)]
    assert shift_name(task, 0) == f"the right answer · {group.element_names[1]}"


@pytest.mark.parametrize(("op", "sign"), [("add", 1), ("subtract", -1)])
def test_other_answers_of_a_cyclic_group_are_other_slopes(op, sign):
    task = ModularTask(ModularConfig(op=op, p=7))
    a, b = task.operands.T.numpy()
    expected = {tuple((a + sign * j * b) % 7) for j in range(2, 7)}
    assert {tuple(row) for row in other_answers(task).tolist()} == expected


def test_a_large_group_has_the_slopes_nearest_to_zero():
    task = ModularTask(ModularConfig(p=101))
    found = other_answers(task)
    assert len(found) == MOST_MAPS - 1
    a, b = task.operands.T
    assert any(torch.equal(row, (a - b) % 101) for row in found)


def test_unknown_answers_stay_unknown():
    draw = np.random.default_rng(0)
    pairs = np.stack(np.meshgrid(range(6), range(6), indexing="ij"), -1).reshape(-1, 2)
    true = pairs.sum(1) % 6
    train = draw.permutation(36) < 20
    task = ArrayTask(pairs, true, np.where(train, -1, true), train)
    found = other_answers(task)
    known = {tuple(pair): answer for pair, answer, seen in zip(pairs.tolist(), true, train, strict=True) if not seen}
    reversed_order = [known.get((a, 5 - b), -1) for a, b in pairs]
    assert found[0].tolist() == reversed_order and -1 in reversed_order
