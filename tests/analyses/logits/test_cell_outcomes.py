import numpy as np
import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.cell_outcomes import OUTCOMES, CellOutcomes, CellOutcomesResult
from mechmem.core.subject import Subject
from mechmem.scorecard.controls import LogitTable


def answering(task, answers) -> Subject:
    """A network that gives these answers, in the order of the task's ids."""
    return Subject(
        LogitTable(torch.nn.functional.one_hot(torch.as_tensor(answers), task.n_classes).double(), task), task
    )


@pytest.mark.parametrize(("op", "p"), [("add", 7), ("subtract", 6), ("multiply", 5), ("multiply", 7)])
def test_planted_cells_are_memorized_and_all_others_right(op, p):
    planted = mm.planted_network(p, op=op, memorized_fraction=0.3)
    frame = CellOutcomes()(planted.subject).to_frame()
    memorized = frame.index[frame["outcome"] == "memorized"]
    assert sorted(memorized) == sorted(planted.cells.tolist()) and len(memorized)
    assert set(frame["outcome"]) == {"memorized", "right"}
    operation = {
        "add": frame["a"] + frame["b"],
        "subtract": frame["a"] - frame["b"],
        "multiply": frame["a"] * frame["b"],
    }
    assert (frame["true"] == operation[op] % p).all()
    assert (frame.loc[memorized, "predicted"] == frame.loc[memorized, "given"]).all()


def test_everything_else_is_wrong():
    task = mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.6, noise=mm.LabelNoise(0.5)))
    noisy, test = task.splits["train_noisy"], task.splits["test"]
    answers = task.true(task.ids).clone()
    answers[noisy[0]] = next(c for c in range(5) if c not in (int(answers[noisy[0]]), int(task.given(noisy[:1]))))
    answers[noisy[1]] = task.given(noisy[1:2])
    answers[test[0]] = (answers[test[0]] + 1) % 5
    frame = CellOutcomes()(answering(task, answers)).to_frame()
    assert frame.loc[int(noisy[0]), "outcome"] == "wrong"
    assert frame.loc[int(noisy[1]), "outcome"] == "memorized"
    assert frame.loc[int(noisy[2]), "outcome"] == "right", "a noisy pair whose truth is answered is right"
    assert frame.loc[int(test[0]), "outcome"] == "wrong"
    assert frame.loc[frame["split"] == "test", "given"].isna().all(), "a held-out pair was given no label"
    assert (frame["outcome"] == "wrong").sum() == 2


@pytest.fixture
def partial():
    """A user's own task: one-hot inputs, one pair missing, one held out, some truths unknown, other ids in order."""
    operands = torch.tensor([[1, 1], [0, 0], [0, 1], [2, 2], [1, 0], [2, 0], [0, 2], [1, 2]])
    true = operands.sum(1) % 3
    given = true.clone()
    given[2] = (given[2] + 1) % 3
    train = torch.tensor([True, True, True, True, False, False, True, True])
    unknown = true.clone()
    unknown[[0, 3]] = -1
    inputs = torch.nn.functional.one_hot(operands, 3).flatten(1).float()
    task = mm.ArrayTask(inputs, given, unknown, train, operands=operands, n_classes=3)
    answers = true.clone()
    answers[2], answers[3], answers[5] = given[2], (given[3] + 1) % 3, (true[5] + 1) % 3
    return CellOutcomes()(answering(task, answers))


def test_unknown_truth_reads_as_unknown(partial):
    assert partial.to_frame()["outcome"].tolist() == [
        "unknown",
        "right",
        "memorized",
        "unknown",
        "right",
        "wrong",
        "right",
        "right",
    ]
    assert partial.to_frame()["true"].isna().tolist() == [True, False, False, True] + [False] * 4


def test_the_grid_shows_each_pair_at_its_place_and_leaves_missing_ones_blank(partial):
    heat, *_, dots = partial.plot().data
    names = np.array(list(OUTCOMES))
    for row in partial.to_frame().itertuples():
        assert names[int(heat.z[row.a, row.b])] == row.outcome
        given, true, predicted, split, outcome = heat.customdata[row.a, row.b]
        assert given == ("none" if pd.isna(row.given) else str(row.given))
        assert true == ("unknown" if pd.isna(row.true) else str(row.true))
        assert (predicted, split, outcome) == (str(row.predicted), row.split, row.outcome)
    assert np.isnan(heat.z[2, 1]) and np.isnan(heat.z).sum() == 1
    assert set(zip(dots.y.tolist(), dots.x.tolist(), strict=True)) == {(1, 0), (2, 0)}
    for field in ("%{y}", "%{x}", *(f"%{{customdata[{i}]}}" for i in range(5))):
        assert field in heat.hovertemplate


def test_saved_and_loaded_it_is_the_same(partial, tmp_path):
    partial.save(tmp_path / "r.safetensors")
    pd.testing.assert_frame_equal(CellOutcomesResult.load(tmp_path / "r.safetensors").to_frame(), partial.to_frame())
