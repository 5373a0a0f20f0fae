import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.build import build_task
from mechmem.tasks.config import TaskConfig
from mechmem.tasks.grid_tasks import training_mask

OPERATIONS = {
    "add": lambda a, b, p: (a + b) % p,
    "subtract": lambda a, b, p: (a - b) % p,
    "multiply": lambda a, b, p: a * b % p,
}


@pytest.mark.parametrize(
    "op, p", [(op, p) for op in OPERATIONS for p in (2, 3, 4, 7, 9, 12, 13) if op != "multiply" or p in (2, 3, 7, 13)]
)
def test_the_grid_and_its_truth(op, p):
    task = build_task(mm.ModularConfig(op=op, p=p, train_fraction=0.5))
    assert task.ids.tolist() == list(range(p * p))
    inputs, _ = task.batch(task.ids)
    assert inputs.tolist() == [[a, b] for a in range(p) for b in range(p)]
    assert torch.equal(task.operands, inputs)
    assert task.true(task.ids).tolist() == [OPERATIONS[op](a, b, p) for a in range(p) for b in range(p)]
    assert all(task.cell(a, b) == a * p + b for a in range(p) for b in range(p))
    assert (task.symbols, task.n_classes, task.operation) == (p, p, op)


@given(st.integers(2, 15), st.floats(0.2, 0.8), st.floats(0, 1), st.integers(0, 50))
def test_splits_partition_the_grid_and_held_out_labels_are_true(p, fraction, noise, seed):
    task = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=fraction, noise=mm.LabelNoise(noise), seed=seed))
    parts = task.splits
    assert sorted(torch.cat(list(parts.values())).tolist()) == task.ids.tolist()
    assert len(task.train_ids) == round(fraction * p * p)
    assert torch.equal(task.given(task.test_ids), task.true(task.test_ids))
    assert torch.equal(task.given(parts["train_clean"]), task.true(parts["train_clean"]))
    assert (task.given(parts["train_noisy"]) != task.true(parts["train_noisy"])).all()
    assert len(parts["train_noisy"]) == round(noise * len(task.train_ids))


def test_one_config_one_task():
    config = mm.ModularConfig(p=11, noise=mm.LabelNoise(0.5))
    one, same = mm.ModularTask(config), mm.ModularTask(config)
    assert torch.equal(one.train_ids, same.train_ids) and torch.equal(one.given(one.ids), same.given(same.ids))
    assert one.digest == same.digest == config.digest
    other = mm.ModularTask(mm.ModularConfig(p=11, noise=mm.LabelNoise(0.5), seed=1))
    assert not torch.equal(one.train_ids, other.train_ids)
    assert other.digest != one.digest


def test_more_noise_leaves_the_split_and_grows_the_noisy_set():
    tasks = [mm.ModularTask(mm.ModularConfig(p=11, noise=mm.LabelNoise(xi))) for xi in (0.0, 0.2, 0.6, 1.0)]
    noisy = [set(task.splits["train_noisy"].tolist()) for task in tasks]
    assert all(torch.equal(task.train_ids, tasks[0].train_ids) for task in tasks)
    assert noisy[0] < noisy[1] < noisy[2] < noisy[3] == set(tasks[0].train_ids.tolist())


def test_the_step_changes_nothing_where_nothing_is_augmented():
    task = mm.ModularTask(mm.ModularConfig(p=5))
    for before, after in zip(task.batch(task.ids), task.batch(task.ids, step=9), strict=True):
        assert torch.equal(before, after)


def test_summary_counts_the_splits():
    task = mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.8, noise=mm.LabelNoise(0.25)))
    summary = task.summary
    assert {key: summary[key] for key in ("p", "n_train", "n_train_clean", "n_train_noisy", "n_test", "classes")} == {
        "p": 5,
        "n_train": 20,
        "n_train_clean": 15,
        "n_train_noisy": 5,
        "n_test": 5,
        "classes": 5,
    }


@pytest.mark.parametrize("a, b", [(5, 0), (0, 5), (-1, 0), (0, -1)])
def test_a_cell_off_the_grid_is_refused(a, b):
    with pytest.raises(UnknownNameError, match=rf"no cell \({a}, {b}\): operands lie in 0 … 4"):
        mm.ModularTask(mm.ModularConfig(p=5)).cell(a, b)


def test_sets_that_come_out_empty_are_refused():
    with pytest.raises(ConfigError, match="empty training set"):
        mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.05, split="stratified"))
    with pytest.raises(ConfigError, match="empty test set"):
        mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.95, split="stratified"))


def test_a_config_of_something_else():
    with pytest.raises(ConfigError, match="no task is built from a TaskConfig"):
        build_task(TaskConfig())


def test_multiplication_by_a_composite_p_is_a_task_without_a_group():
    task = mm.ModularTask(mm.ModularConfig(op="multiply", p=15, train_fraction=0.5))
    assert task.group is None and task.operation == "multiply"
    assert torch.equal(task.true(task.ids), task.operands.prod(1) % 15)


answers = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(torch.tensor)
fractions = st.floats(0, 1)
seeds = st.integers(0, 1000)


@given(answers, fractions, seeds)
def test_random_takes_its_share(labels, fraction, seed):
    mask = training_mask(labels, fraction, "random", seed)
    assert int(mask.sum()) == round(fraction * len(labels))


@given(answers, st.integers(0, 20).map(lambda i: i / 20), seeds)
def test_stratified_takes_the_same_share_of_every_answer(labels, fraction, seed):
    mask = training_mask(labels, fraction, "stratified", seed)
    for answer in set(labels.tolist()):
        count = int((labels == answer).sum())
        assert int(mask[labels == answer].sum()) == round(fraction * count)


@given(st.integers(1, 30), fractions, seeds)
def test_answers_are_held_out_whole(p, fraction, seed):
    labels = torch.arange(p * p) % p
    mask = training_mask(labels, fraction, "answers", seed)
    trained = {answer for answer in range(p) if mask[labels == answer].all()}
    held_out = {answer for answer in range(p) if not mask[labels == answer].any()}
    assert len(trained) + len(held_out) == p
    assert len(trained) == round(fraction * p)


@pytest.mark.parametrize("kind", ["random", "stratified", "answers"])
def test_every_cell_is_as_likely_as_any_other(kind):
    labels = torch.arange(20) % 5
    share = torch.stack([training_mask(labels, 0.6, kind, seed) for seed in range(600)]).double().mean(0)
    expected = 0.5 if kind == "stratified" else 0.6
    # round(.6 · 4) of every answer is 2; five standard errors.
    assert (share - expected).abs().max() < 5 * (0.25 / 600) ** 0.5


@pytest.mark.parametrize("kind", ["random", "stratified", "answers"])
@given(seed=seeds)
def test_seeds_decide(kind, seed):
    labels = torch.arange(400) % 20
    masks = [training_mask(labels, 0.5, kind, s) for s in (seed, seed, seed + 1)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_no_held_out_answer_has_a_label_in_training():
    task = mm.ModularTask(mm.ModularConfig(p=13, train_fraction=0.6, split="answers"))
    assert not set(task.true(task.train_ids).tolist()) & set(task.true(task.test_ids).tolist())
    assert len(task.train_ids) == 8 * 13
