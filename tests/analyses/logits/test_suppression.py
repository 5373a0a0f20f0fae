import math

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.suppression import LOCAL, Suppression, SuppressionResult
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.scorecard.controls import LogitTable

TASKS = [("add", 7), ("add", 6), ("subtract", 5), ("subtract", 8), ("multiply", 7)]
PARTS = ["row and column effects", "rule", "remainder"]


def task_of(op, p):
    return mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.7, noise=mm.LabelNoise(0.4)))


def random_logits(task, seed=0):
    shape = (len(task.ids), task.n_classes)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(task, logits):
    return Subject(LogitTable(logits, task), task)


def means(result, quantity="margin"):
    frame = result.to_frame()
    return frame[frame["quantity"] == quantity].pivot(index="split", columns="part", values="value")


def independent(task, logits):
    """Mean parts per split, by a one-hot least-squares fit and a two-sided FFT over the discrete logarithm."""
    elements, n = task.group.elements.numpy(), len(task.group.elements)
    p, sign = task.n_classes, -1 if task.operation == "subtract" else 1
    grid = logits.numpy().reshape(p, p, p)[np.ix_(elements, elements)]
    grid = grid - grid.mean(-1, keepdims=True)
    design = np.concatenate([np.kron(np.eye(n), np.ones((n, 1))), np.kron(np.ones((n, 1)), np.eye(n))], 1)
    flat = grid.reshape(n * n, p)
    additive = design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    modes = np.fft.fft2((flat - additive).reshape(n, n, p), axes=(0, 1))
    keep = np.zeros((n, n, 1))
    for k in range(1, n):
        keep[(sign * k) % n, k] = 1
    rule = np.fft.ifft2(modes * keep, axes=(0, 1)).real.reshape(n * n, p)
    parts = np.stack([additive, rule, flat - additive - rule])
    place = {(a, b): i * n + j for i, a in enumerate(elements) for j, b in enumerate(elements)}
    found = {}
    for split in ("train_clean", "train_noisy", "train_noisy_true", "test"):
        ids = task.splits[split.removesuffix("_true")].numpy()
        labels = (task.given if split == "train_noisy" else task.true)(torch.from_numpy(ids)).numpy()
        rows = []
        for cell, label in zip(ids, labels, strict=True):
            if (cell // p, cell % p) in place:
                at = place[cell // p, cell % p]
                rival = max((c for c in range(p) if c != label), key=lambda c: flat[at, c])  # noqa: B023
                rows.append(parts[:, at, label] - parts[:, at, rival])
        found[split] = np.mean(rows, 0), len(rows), len(ids) - len(rows)
    return found


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_parts_equal_an_independent_decomposition_and_add_up(op, p):
    task = task_of(op, p)
    logits = random_logits(task)
    result = Suppression()(table(task, logits))
    expected = independent(task, logits)
    for margin in result.margins:
        mean, n, outside = expected.pop(margin.split)
        parts = [margin.row_column.value, margin.rule.value, margin.remainder.value]
        np.testing.assert_allclose(parts, mean, atol=1e-12)
        assert margin.total.value == pytest.approx(sum(parts), abs=1e-12)
        assert (margin.total.n, margin.n_outside) == (n, outside)
    assert not expected


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_the_total_is_the_margin_of_the_networks_own_logits(op, p):
    task = task_of(op, p)
    logits = random_logits(task, 1)
    total = means(Suppression()(table(task, logits)))["total"]
    for split, label in (("train_noisy", task.given), ("train_noisy_true", task.true), ("test", task.true)):
        ids = task.splits[split.removesuffix("_true")]
        ids = ids[~torch.isin(task.operands[ids], task.group.outside).any(1)]
        own = logits[ids].gather(1, label(ids)[:, None])[:, 0]
        others = logits[ids].scatter(1, label(ids)[:, None], -math.inf)
        assert total[split] == pytest.approx(float((own - others.max(1).values).mean()))


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_a_rule_alone_and_effects_alone_are_told_apart(op, p):
    task = task_of(op, p)
    logits = 3 * torch.nn.functional.one_hot(task.true(task.ids), p).double()
    # No pair of group elements has an answer outside the group; its class must not tie for the rival either.
    logits[:, task.group.outside] -= 5
    rule = means(Suppression()(table(task, logits)))
    np.testing.assert_allclose(rule.loc[["train_clean", "test"], "rule"], 3, atol=1e-12)
    np.testing.assert_allclose(
        rule.loc[["train_clean", "test"], ["row and column effects", "remainder"]], 0, atol=1e-12
    )
    if op != "multiply":  # a wrong label of 0 loses by its class's constant too, which is additive
        np.testing.assert_allclose(rule.loc["train_noisy", "rule"], -3, atol=1e-12)
    rows, columns = random_logits(task)[:p], random_logits(task, 2)[:p]
    additive = rows[task.operands[:, 0]] + columns[task.operands[:, 1]]
    effects = means(Suppression()(table(task, additive)))
    np.testing.assert_allclose(effects[["rule", "remainder"]], 0, atol=1e-12)
    np.testing.assert_allclose(effects["row and column effects"], effects["total"], atol=1e-12)


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
def test_planted_memories_are_in_the_remainder_and_the_planted_rule_in_the_rule(op):
    planted = mm.planted_network(11, op=op, memorized_fraction=0.15, dtype=torch.float64)
    found = means(Suppression()(planted.subject))
    assert found.loc["test", "rule"] > 0.6 * found.loc["test", "total"] > 0
    assert found.loc["train_noisy", "remainder"] > 0.6 * found.loc["train_noisy", "total"] > 0
    # The planted memory takes 2 from the true logit of 1 and gives 2 to the wrong one: the truth loses by 3.
    assert found.loc["train_noisy_true", "total"] == pytest.approx(-3, abs=0.3)
    assert found.loc["train_noisy_true", "rule"] > 0.2 > -2 > found.loc["train_noisy_true", "remainder"]


def test_products_with_zero_are_counted_as_outside_and_named_in_the_figure():
    task = task_of("multiply", 5)
    result = Suppression()(table(task, random_logits(task)))
    by_split = {margin.split: margin for margin in result.margins}
    assert sum(by_split[split].n_outside for split in ("train_clean", "train_noisy", "test")) == 2 * 5 - 1
    assert sum(by_split[split].total.n for split in ("train_clean", "train_noisy", "test")) == 16
    assert any(f"({by_split['test'].n_outside} outside the group)" in bar for bar in result.plot().data[0].x)


def test_intervals_resample_whole_answers():
    # Every cell of an answer has the answer's own margin: n cells are then p outcomes, not n.
    task = mm.ModularTask(mm.ModularConfig(p=13, train_fraction=0.5))
    strength = torch.linspace(1, 10, 13, dtype=torch.float64)
    true = task.true(task.ids)
    logits = torch.nn.functional.one_hot(true, 13).double() * strength[true][:, None]
    test = {m.split: m for m in Suppression()(table(task, logits)).margins}["test"].total
    of_cells = strength[true[task.test_ids]].std() / len(task.test_ids) ** 0.5
    assert test.low < test.value < test.high
    assert test.high - test.low > 1.5 * 2 * 1.96 * float(of_cells)


def test_splits_without_known_labels_are_left_out():
    task = task_of("add", 5)
    unknown = task.true(task.ids).clone()
    unknown[task.train_ids[0]] = -1
    train = torch.zeros(25, dtype=torch.bool)
    train[task.train_ids] = True
    own = mm.ArrayTask(task.operands, task.given(task.ids), unknown, train, operation="add", n_classes=5)
    result = Suppression()(table(own, random_logits(own)))
    assert [margin.split for margin in result.margins] == ["test"]
    assert set(result.plot().data[0].x) == {f"test<br>true label<br>n = {len(own.test_ids)}"}
    with pytest.raises(MissingNeedError, match="needs group, operation"):
        plain = mm.ArrayTask(task.operands, task.given(task.ids), unknown, train, n_classes=5)
        Suppression()(table(plain, random_logits(plain)))


def test_the_figure_stacks_the_parts_to_the_total(planted):
    result = Suppression()(planted.subject)
    *bars, total = result.plot().data[:4]
    assert [bar.name for bar in bars] == PARTS
    np.testing.assert_allclose(np.sum([bar.y for bar in bars], 0), total.y, atol=1e-12)
    assert list(total.x) == list(bars[0].x) and len(set(total.x)) == 4


def in_group(task, ids):
    return ids[~torch.isin(task.operands[ids], task.group.outside).any(1)]


def left_after(task, logits):
    """Logits per cell after each removal, from scipy-free numpy: two-way means, then means by answer."""
    elements, n, p = task.group.elements.numpy(), len(task.group.elements), task.n_classes
    grid = logits.numpy().reshape(p, p, p)[np.ix_(elements, elements)]
    grid = grid - grid.mean(-1, keepdims=True)
    additive = grid.mean(0, keepdims=True) + grid.mean(1, keepdims=True) - grid.mean((0, 1), keepdims=True)
    a, b = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    answer = (a - b if task.operation == "subtract" else a + b) % n
    rule = np.stack([(grid - additive)[answer == s].mean(0) for s in range(n)])[answer]
    remainder = grid - additive - rule
    return elements, {
        "total": grid,
        "without row and column effects": rule + remainder,
        "without rule": additive + remainder,
        "without remainder": additive + rule,
        "only row and column effects": additive,
        "only rule": rule,
        "only remainder": remainder,
    }


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_removals_equal_an_independent_computation(op, p):
    task = task_of(op, p)
    logits = random_logits(task, 4) + 2 * torch.nn.functional.one_hot(task.true(task.ids), p)
    result = Suppression()(table(task, logits))
    accuracy, margin = means(result, "accuracy"), means(result)
    elements, left = left_after(task, logits)
    place = {symbol: position for position, symbol in enumerate(elements)}
    for split in ("train_clean", "train_noisy", "train_noisy_true", "test"):
        ids = in_group(task, task.splits[split.removesuffix("_true")])
        labels = (task.given if split == "train_noisy" else task.true)(ids).numpy()
        cells = [(place[a], place[b]) for a, b in task.operands[ids].tolist()]
        for part, grid in left.items():
            scores = np.stack([grid[cell] for cell in cells])
            own = scores[np.arange(len(ids)), labels]
            others = np.where(np.eye(p, dtype=bool)[labels], -np.inf, scores).max(1)
            assert accuracy.loc[split, part] == pytest.approx(np.mean(own > others)), (split, part)
            if part not in PARTS:
                assert margin.loc[split, part] == pytest.approx(np.mean(own - others)), (split, part)


# Large enough that effects fitted on the held-out cells leave something of them.
@pytest.mark.parametrize(("op", "p"), [("add", 13), ("subtract", 12), ("multiply", 13)])
def test_effects_fitted_on_the_cells_themselves_are_those_of_additive_free(op, p):
    task = task_of(op, p)
    subject = table(task, random_logits(task, 5) + 2 * torch.nn.functional.one_hot(task.true(task.ids), p))
    accuracy = means(Suppression()(subject), "accuracy")[LOCAL]
    predict = mm.extractor("additive_free")(subject)
    for split, company in (
        ("train_clean", task.train_ids),
        ("train_noisy_true", task.train_ids),
        ("test", task.test_ids),
    ):
        answer = torch.full((len(task.ids),), -1)
        answer[company] = predict(company).argmax(1)
        ids = in_group(task, task.splits[split.removesuffix("_true")])
        assert accuracy[split] == pytest.approx(float((answer[ids] == task.true(ids)).double().mean()))


def test_what_holds_the_truth_down_is_named():
    task = mm.ModularTask(mm.ModularConfig(p=13, train_fraction=0.6, noise=mm.LabelNoise(0.4)))
    rule = torch.nn.functional.one_hot(task.true(task.ids), 13).double()
    memory = torch.zeros_like(rule)
    memory[task.train_ids] = 4 * torch.nn.functional.one_hot(task.given(task.train_ids), 13).double()
    effects = 1.2 * random_logits(task, 6)[:13][task.operands[:, 0]]
    result = Suppression()(table(task, rule + memory + effects))
    assert result.suppressing["test"][0] == "row and column effects"
    assert result.suppressing["train_noisy_true"][0] == "remainder"
    assert "rule" not in result.suppressing["test"]
    accuracy = means(result, "accuracy")
    assert accuracy.loc["test", LOCAL] > 0.9 > 0.5 > accuracy.loc["test", "total"]
    assert accuracy.loc["train_noisy", "without remainder"] < 0.2 < 0.9 < accuracy.loc["train_noisy", "only remainder"]


def test_the_frame_is_tidy_and_the_figure_shows_both_quantities(planted):
    result = Suppression()(planted.subject)
    frame = result.to_frame()
    assert list(frame.columns) == ["quantity", "split", "part", "value", "low", "high", "n"]
    assert not frame.duplicated(["quantity", "split", "part"]).any()
    accuracy = frame[frame["quantity"] == "accuracy"]
    assert len(accuracy) == 4 * 8 and accuracy["value"].between(accuracy["low"], accuracy["high"]).all()
    figure = result.plot()
    assert figure.layout.xaxis2.title.text.startswith("accuracy")
    assert "logits" in figure.layout.yaxis.title.text
    assert len(figure.layout.yaxis2.ticktext) == 8
    assert {trace.legend for trace in figure.data[4:]} == {"legend2"}


def test_saved_and_loaded_it_is_the_same(planted, tmp_path):
    result = Suppression()(planted.subject)
    result.save(tmp_path / "r.safetensors")
    loaded = SuppressionResult.load(tmp_path / "r.safetensors")
    assert (loaded.margins, loaded.removals, loaded.chance) == (result.margins, result.removals, result.chance)
