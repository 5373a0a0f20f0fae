import dataclasses
import math

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.operation_scan import OperationScan, OperationScanResult
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.scorecard.controls import LogitTable, label_grid


def task_of(op="add", p=13, noise=0.3, fraction=0.6):
    return mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=fraction, noise=mm.LabelNoise(noise)))


def scan(task, logits):
    return OperationScan()(Subject(LogitTable(logits, task), task))


def of_slope(task, slope, seed=0):
    """Random logits for every value of a + slope·b, and a little noise."""
    draw = torch.Generator().manual_seed(seed)
    p, n = task.n_classes, len(task.group.elements)
    a, b = task.group.logarithm[task.operands].unbind(1)
    table = torch.randn(n, p, generator=draw, dtype=torch.float64)
    return table[(a + slope * b) % n] + 0.3 * torch.randn(p * p, p, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize(("op", "slope"), [("add", 1), ("subtract", 12), ("multiply", 1)])
def test_the_tasks_own_operation_is_found_in_the_truth_and_in_labels(op, slope):
    task = task_of(op)
    result = scan(task, torch.nn.functional.one_hot(task.true(task.ids), 13).double())
    assert result.true_slope == (slope if op != "subtract" else 12)
    assert result.best["network"] == result.best["network held out"] == slope
    assert result.best["labels"] == result.best["kernel ridge"] == slope


@pytest.mark.parametrize("slope", [1, 2, 5, 12])
def test_any_planted_slope_is_found_whatever_the_task(slope):
    task = task_of("add")
    result = scan(task, of_slope(task, slope))
    assert result.best["network"] == result.best["network held out"] == slope
    z = result.z[:2, slope - 1]
    assert (z > 10).all()
    assert result.best["labels"] == 1


def test_the_operation_is_not_read():
    logits = of_slope(task_of(), 3)
    one = scan(task_of(), logits)
    other = task_of()
    other.operation = "subtract"
    two = scan(other, logits)
    torch.testing.assert_close(two.share, one.share)
    assert (one.true_slope, two.true_slope) == (1, 12)


def test_a_table_of_labels_shows_on_all_inputs_and_not_on_held_out_ones():
    task = task_of()
    result = scan(task, label_grid(task).double())
    frame = result.to_frame().pivot(index="slope", columns="source", values="share")
    np.testing.assert_allclose(frame["network"], frame["labels"], atol=1e-12)
    assert (frame["network held out"] == 0).all() and "network held out" not in result.best
    assert result.best["network"] == 1
    assert "network, held-out inputs only: nothing" in {trace.name for trace in result.plot().data}


def test_held_out_shares_read_no_trained_cell():
    task = task_of()
    logits = of_slope(task, 4)
    changed = logits.clone()
    changed[task.train_ids] = 100 * changed[task.train_ids].square()
    for one, two in zip(scan(task, logits).share[1], scan(task, changed).share[1], strict=True):
        assert float(one) == float(two)


def test_held_out_shares_equal_least_squares_and_loops():
    task = task_of(p=7)
    logits = of_slope(task, 2).numpy()
    ids = task.test_ids.numpy()
    pairs = task.operands[task.test_ids].numpy()
    design = np.zeros((len(ids), 14))
    design[np.arange(len(ids)), pairs[:, 0]] = design[np.arange(len(ids)), 7 + pairs[:, 1]] = 1
    centred = logits[ids] - logits[ids].mean(1, keepdims=True)
    residual = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    result = scan(task, torch.from_numpy(logits))
    for slope, share in zip(result.slopes.tolist(), result.share[1], strict=True):
        line = (pairs[:, 0] + slope * pairs[:, 1]) % 7
        means = [(line == c).sum() * np.square(residual[line == c].mean(0)).sum() for c in set(line)]
        assert float(share) == pytest.approx(sum(means) / np.square(residual).sum())


def test_noise_stands_out_nowhere():
    task = task_of(p=23)
    draw = torch.Generator().manual_seed(0)
    result = scan(task, torch.randn(529, 23, generator=draw, dtype=torch.float64))
    assert float(result.z[:2].abs().max()) < 5
    assert float(result.share[0].sum()) == pytest.approx(1)


def test_additive_logits_have_no_structure():
    task = task_of()
    rows = torch.randn(13, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = scan(task, rows[task.operands[:, 0]] - rows[task.operands[:, 1]])
    assert not result.share[:2].any() and set(result.best) == {"labels", "kernel ridge"}


def test_a_source_that_cannot_be_had_is_left_out_with_its_reason(monkeypatch):
    def too_large(task):
        raise MissingNeedError("above 5 training examples")

    monkeypatch.setattr("mechmem.analyses.logits.operation_scan.kernel_ridge", too_large)
    result = scan(task_of(), of_slope(task_of(), 1))
    assert result.sources == ("network", "network held out", "labels") and "above 5 training examples" in result.note


@pytest.mark.parametrize(("op", "p"), [("add", 2), ("add", 3), ("multiply", 3), ("add", 6)])
def test_small_groups(op, p):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    result = scan(task, torch.nn.functional.one_hot(task.true(task.ids), p).double())
    assert result.share.shape == (4, len(task.group.elements) - 1)
    assert math.isnan(float(result.z[0, 0])) or p == 6
    result.plot()


def test_the_figure_and_the_file(planted, tmp_path):
    result = OperationScan()(planted.subject)
    figure = result.plot()
    assert "best j = 1" in figure.data[0].name and "task's own: 1" in figure.layout.xaxis.title.text
    result.save(tmp_path / "r.safetensors")
    loaded = OperationScanResult.load(tmp_path / "r.safetensors")
    assert loaded.best == result.best
    for field in dataclasses.fields(result):
        one, two = getattr(loaded, field.name), getattr(result, field.name)
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) and field.name != "z" else True


@pytest.mark.parametrize(("split", "said"), [("answers", True), ("random", False)])
def test_says_where_the_split_itself_gives_the_operation_away(split, said):
    task = mm.ModularTask(mm.ModularConfig("subtract", p=23, train_fraction=0.6, split=split))
    model = HookedMLP(mm.MLPConfig(width=16), 23)
    note = OperationScan()(mm.Subject(model, task, model.roles)).note
    assert ("lines of slope 22" in note) == said
