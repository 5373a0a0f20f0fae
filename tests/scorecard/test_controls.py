"""Controls replace the model and nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows, evaluating
from mechmem.models.reading.forward import all_logits, logits_of
from mechmem.scorecard import controls
from mechmem.scorecard import controls as label_tables
from mechmem.scorecard.controls import LogitTable
from mechmem.tasks.config import LabelNoise, ModularConfig
from mechmem.tasks.grid_tasks import ModularTask


def task_of(p=7):
    return ModularTask(ModularConfig(p=p, train_fraction=0.6, noise=LabelNoise(0.4)))


def test_kernel_ridge_agrees_with_solving_the_normal_equations():
    task = task_of()
    two_hot = F.one_hot(task.operands, 7).flatten(1).double().numpy()
    distance = ((two_hot[:, None] - two_hot[None]) ** 2).sum(-1)
    kernel = np.exp(-label_tables.RIDGE["gamma"] * distance)
    train = task.train_ids.numpy()
    targets = np.eye(7)[task.given(task.train_ids).numpy()]
    weights = np.linalg.solve(kernel[np.ix_(train, train)] + label_tables.RIDGE["alpha"] * np.eye(len(train)), targets)
    np.testing.assert_allclose(label_tables.kernel_ridge(task).numpy(), kernel[:, train] @ weights, atol=1e-8)


def test_kernel_ridge_fits_the_given_labels():
    task = task_of()
    prediction = label_tables.kernel_ridge(task)[task.train_ids].argmax(1)
    assert (prediction == task.given(task.train_ids)).all()


def test_kernel_ridge_says_when_it_is_too_large(monkeypatch):
    monkeypatch.setattr(label_tables, "RIDGE_LIMIT", 5)
    rows = mm.ArrayTask(torch.randn(9, 3), torch.arange(9) % 2, None, torch.arange(9) < 6)
    with pytest.raises(MissingNeedError, match="above 5 training examples"):
        label_tables.kernel_ridge(rows)
    assert label_tables.kernel_ridge(task_of()).isfinite().all()  # pairs need no matrix of the training set


def test_kernel_ridge_of_pairs_that_stand_twice_is_the_dense_one():
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [0, 1], [1, 1], [2, 1]])
    labels = torch.tensor([0, 1, 1, 0, 2, 0])
    train = torch.tensor([True, True, True, True, False, True])
    inputs = F.one_hot(pairs, 3).flatten(1).float() + torch.arange(6.0)[:, None]
    task = mm.ArrayTask(inputs, labels, None, train, operands=pairs)
    found = label_tables.kernel_ridge(task)
    assert (found[1] - found[3]).abs().max() < 1e-9 and (found[1, :2] - 0.5).abs().max() < 0.01


def test_label_grid_is_the_labels_and_nothing_else():
    task = task_of()
    table = label_tables.label_grid(task)
    assert (table[task.train_ids].argmax(1) == task.given(task.train_ids)).all()
    assert table[task.test_ids].abs().sum() == 0 and table.sum() == len(task.train_ids)


def test_a_train_callable_gets_uniform_labels_on_the_same_split():
    task = task_of(p=31)
    seen = []

    def train(relabelled):
        seen.append(relabelled)
        return LogitTable(torch.ones(len(task.ids), 31), task)

    subject = Subject(LogitTable(torch.zeros(len(task.ids), 31), task), task)
    models = controls.control_models(subject, {}, train, progress=False)
    labels = seen[0].given(task.train_ids)
    assert isinstance(models["noise_only"], LogitTable) and isinstance(models["untrained"], str)
    assert torch.equal(seen[0].train_ids, task.train_ids) and torch.equal(seen[0].true(task.ids), task.true(task.ids))
    # Uniform over all classes: right about once in 31 times, every class in use.
    assert 0 < (labels == task.true(task.train_ids)).double().mean() < 0.1
    assert set(labels.tolist()) == set(range(31))
    assert torch.equal(seen[0].given(task.test_ids), task.given(task.test_ids))


def array_task(inputs, n_classes=3):
    labels = torch.arange(len(inputs)) % n_classes
    return mm.ArrayTask(inputs, labels, labels, torch.arange(len(inputs)) < len(inputs) - 2, n_classes=n_classes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float64, torch.bfloat16])
def test_a_table_answers_its_inputs_in_any_order(dtype, draw):
    task = array_task((torch.randn(10, 2, 3, generator=draw) * 100).to(dtype))
    logits = torch.randn(10, 3, generator=draw, dtype=torch.float64)
    table = LogitTable(logits, task)
    ids = torch.tensor([7, 0, 7, 3])
    assert torch.equal(table(task.batch(ids)[0]), logits[ids])
    assert torch.equal(logits_of(table, task, task.ids), logits)
    logits.zero_()
    assert table(task.batch(ids)[0]).abs().sum() > 0


def test_tables_that_do_not_fit():
    task = array_task(torch.arange(8.0)[:, None])
    for shape in ((8, 4), (7, 3), (3, 8)):
        with pytest.raises(ConfigError, match=r"one row per id and one column per class, \(8, 3\), got"):
            LogitTable(torch.zeros(shape), task)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="NaN or infinity"):
            LogitTable(torch.full((8, 3), bad), task)
    with pytest.raises(ConfigError, match="same input"):
        LogitTable(torch.zeros(8, 3), array_task(torch.tensor([0.0, 0, 1, 2, 3, 4, 5, 6])[:, None]))


def test_blocks_cover_everything_once():
    for n in (0, 1, 9, 10, 11):
        covered = [i for block in blocks(n, 5) for i in range(n)[block]]
        assert covered == list(range(n))


def test_block_rows_stay_in_their_range():
    for width in (1, 64, 2048, 16384):
        rows = block_rows(torch.nn.Linear(width, 2))
        assert 256 <= rows <= 4096
        assert rows * width <= 2**22
    assert block_rows(torch.nn.Identity()) == 4096
    # Its matrices are tiny, and what it holds of an image is not.
    assert block_rows(torch.nn.Conv2d(3, 64, 3)) == 256


def test_logits_in_blocks_are_those_at_once(monkeypatch, planted):
    subject = planted.subject
    whole = subject.model(subject.task.batch(subject.task.ids)[0]).detach()
    monkeypatch.setattr("mechmem.models.hooks.running.block_rows", lambda model: 4)
    torch.testing.assert_close(logits_of(subject.model, subject.task, subject.task.ids), whole)
    none = logits_of(subject.model, subject.task, subject.task.ids[:0])
    assert none.shape == (0, 7)


def test_the_network_runs_once_per_subject(planted):
    subject = planted.subject.with_model(planted.subject.copy_model())
    calls = []
    subject.model.hook_logits.add_perma_hook(lambda value, hook: calls.append(1))
    first = all_logits(subject)
    n = len(calls)
    assert all_logits(subject) is first and len(calls) == n


def test_evaluating_gives_back_every_mode_after_an_error():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_ridge_of_single_numbers():
    labels = torch.arange(20) % 2
    task = mm.ArrayTask(labels + torch.arange(20) / 100, labels, labels, torch.arange(20) < 14)
    assert torch.equal(controls.kernel_ridge(task).argmax(1), labels)
