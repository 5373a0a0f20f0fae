"""Controls replace the model and nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
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
    with pytest.raises(MissingNeedError, match="above 5 training examples"):
        label_tables.kernel_ridge(task_of())


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
        return LogitTable(torch.zeros(len(task.ids), 31), task)

    subject = Subject(LogitTable(torch.zeros(len(task.ids), 31), task), task)
    models = controls.control_models(subject, {}, train, progress=False)
    labels = seen[0].given(task.train_ids)
    assert isinstance(models["noise_only"], LogitTable) and isinstance(models["untrained"], str)
    assert torch.equal(seen[0].train_ids, task.train_ids) and torch.equal(seen[0].true(task.ids), task.true(task.ids))
    # Uniform over all classes: right about once in 31 times, every class in use.
    assert 0 < (labels == task.true(task.train_ids)).double().mean() < 0.1
    assert set(labels.tolist()) == set(range(31))
    assert torch.equal(seen[0].given(task.test_ids), task.given(task.test_ids))
