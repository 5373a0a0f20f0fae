"""Label votes against brute force."""

import numpy as np
import pytest
import torch

from mechmem.scorecard.votes import vote_by_answer, vote_by_group
from mechmem.tasks.arrays import ArrayTask
from mechmem.tasks.config import LabelNoise, ModularConfig
from mechmem.tasks.grid_tasks import ModularTask


def task_of(**changes):
    settings = {"p": 11, "train_fraction": 0.7, "noise": LabelNoise(0.6), "op": "add", "seed": 3}
    return ModularTask(ModularConfig(**{**settings, **changes}))


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
@pytest.mark.parametrize("noise", [0.0, 0.6, 0.9])
def test_vote_by_answer_is_a_majority(op, noise):
    task = task_of(op=op, noise=LabelNoise(noise))
    given, truth = task.given(task.train_ids).numpy(), task.true(task.train_ids).numpy()
    wanted = task.true(task.test_ids).numpy()
    predictions = [np.bincount(given[truth == answer], minlength=11).argmax() for answer in wanted]
    assert vote_by_answer(task).test.value == pytest.approx(np.mean(predictions == wanted))


def test_a_vote_knows_nothing_of_answers_it_never_saw():
    task = task_of(split="answers", train_fraction=0.6)
    assert vote_by_answer(task).test.value == 0


@pytest.mark.parametrize(("op", "slope"), [("add", 1), ("subtract", 22), ("multiply", 1)])
def test_vote_by_group_finds_the_operation(op, slope):
    vote = vote_by_group(task_of(op=op, noise=LabelNoise(0.3), p=23))
    assert vote.slope == slope and vote.test.value > 0.95


def test_vote_by_group_finds_another_slope():
    p, pairs = 13, torch.cartesian_prod(torch.arange(13), torch.arange(13))
    given = (pairs[:, 0] + 5 * pairs[:, 1]) % p
    train = torch.rand(p * p, generator=torch.Generator().manual_seed(0)) < 0.6
    vote = vote_by_group(ArrayTask(pairs, given, pairs.sum(1) % p, train, operation="add"))
    # Held-out cells with b = 0 are the ones on which both slopes agree.
    assert vote.slope == 5 and vote.test.value == pytest.approx(float((pairs[~train, 1] == 0).float().mean()))


def test_random_labels_give_chance():
    values = [vote_by_answer(task_of(p=23, noise=LabelNoise(1.0, "any"), seed=s)).test.value for s in range(10)]
    assert np.mean(values) < 0.15


def test_without_a_group_there_is_no_vote_by_group():
    task = ArrayTask(torch.randn(20, 3), torch.arange(20) % 4, torch.arange(20) % 4, torch.arange(20) < 10)
    vote = vote_by_group(task)
    assert vote.test is None and "group" in vote.reason
