"""Curves of weight edits: each point is the surgery, and readings at a price use no more than they say."""

import dataclasses
import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

import mechmem as mm
from mechmem.core.plugins import plugins
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

SPLITS = ("train_clean", "train_noisy", "train_noisy_true", "test")


@pytest.fixture(scope="module")
def pictured():
    task = mm.ImageConfig(train=100, test=60, noise=mm.LabelNoise(0.2))
    config = mm.TrainConfig(task, mm.ImageMLPConfig((24, 64)), lr=0.01, weight_decay=0.0, batch_size=25, steps=150)
    return mm.train(config, progress=False)


def accuracies(subject):
    task, train = subject.task, subject.task.train_ids
    predict = mm.extractor("raw")(subject)
    answers, given, true = predict(train).argmax(1), task.given(train), task.true(train)
    wrong = given != true
    hits = (answers == given, (answers == true)[~wrong], (answers == given)[wrong], (answers == true)[wrong])
    test = predict(task.test_ids).argmax(1) == task.true(task.test_ids)
    return [float(each.double().mean()) for each in (*hits, test)]


def test_every_point_is_the_surgery(pictured):
    found = mm.edit_curves(pictured, {"curvature_directions": [0.99, 0.9], "low_rank(layers.*)": [20, 0.5, 1]})
    frame = found.to_frame()
    assert frame["edit"].tolist() == ["raw"] + ["curvature_directions"] * 2 + ["low_rank(layers.*)"] * 3
    for row in frame.to_dict("records"):
        names = [] if row["setting"] == "raw" else [row["setting"]]
        edited = pictured
        for name in names:
            (surgery,) = mm.extractor(name).surgeries
            edited = surgery(edited)
        assert [row[split] for split in ("train", *SPLITS)] == pytest.approx(accuracies(edited))


def test_by_default_what_is_told_nothing_is_compared_on_the_same_weights(pictured):
    found = mm.edit_curves(pictured)
    frame = found.to_frame()
    left_out = frame.loc[frame["reason"] != ""].set_index("edit")["reason"]
    assert set(left_out.index) == {"drop(strength)", "shared_subspaces", "drop_memory"}
    assert "role:input_embedding" in left_out["shared_subspaces"] and "example_tied" in left_out["drop_memory"]
    counts = frame.groupby("edit").size()
    for name, rows in counts.items():
        dials = plugins("surgeries")[name.partition("(")[0]].dial_values if name != "raw" else ()
        assert rows == (1 if name in left_out or name == "raw" else len(dials))
    assert "low_rank(layers.*)" in counts
    for edit in counts.index.difference(["raw"]):
        own = plugins("surgeries")[edit.partition("(")[0]]
        assert own.told(mm.extractor(edit).surgeries[0]) <= {"pairs"}


@pytest.mark.parametrize("values", [[1, 4, 8], [8, 0.9, 12], [0.1, 0.5], [8, 4, 4]], ids=str)
def test_values_that_do_not_go_from_weak_to_strong_are_refused(values, pictured):
    with pytest.raises(ConfigError, match="from weak to strong|given twice"):
        mm.edit_curves(pictured, {"low_rank(layers.*)": values})


def curves(fitted, correct, n=(90, 10, 10, 50)):
    """A made-up network and one edit of it."""
    rows = len(fitted)
    return mm.EditCurves(
        edits=("raw",) + ("edit",) * (rows - 1),
        strengths=torch.tensor([math.nan, *range(1, rows)], dtype=torch.float64),
        settings=("raw", *(f"edit({number})" for number in range(1, rows))),
        n=torch.tensor(n),
        correct=torch.tensor(correct),
        n_train=100,
        fitted=torch.tensor(fitted, dtype=torch.float64),
        reasons=("",) * rows,
    )


MADE = curves(
    [1.0, 0.98, 0.95, 0.88, 0.9, 0.5],
    [[90, 10, 0, 40], [90, 8, 2, 42], [90, 5, 5, 43], [87, 1, 8, 44], [86, 4, 6, 41], [48, 2, 5, 20]],
)


@pytest.mark.parametrize(
    ("lost", "told", "noise", "strength"),
    [
        (0.01, "nothing", 0.0, math.nan),
        (0.02, "nothing", 0.0, 1),
        (0.1, "nothing", 0.0, 4),  # the strongest of that price, though a weaker one costs more
        (0.01, "nothing", 0.1, 4),
        (0.6, "nothing", 0.0, 5),
        (0.0, "truth", 0.0, 2),
        (0.03, "truth", 0.0, 2),
        (0.04, "truth", 0.0, 3),
        (0.05, "truth", 0.0, 3),  # what forgets most, not what is strongest
    ],
)
def test_the_price_is_what_a_user_can_see_or_the_clean_accuracy(lost, told, noise, strength):
    (row,) = MADE.at_price(lost, told, noise).to_dict("records")
    assert row["strength"] == pytest.approx(strength, nan_ok=True) and row["told"] == told and row["edit"] == "edit"
    place = 0 if math.isnan(strength) else strength
    assert row["clean_lost"] == pytest.approx(1 - int(MADE.correct[place, 0]) / 90)
    assert row["test_change"] == pytest.approx((int(MADE.correct[place, 3]) - 40) / 50)


def test_told_nothing_the_clean_accuracy_lost_is_bounded():
    """Whatever the labels, no more than lost / (1 − ξ) of the clean examples can have gone."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        clean, wrong = (np.sort(draw.integers(0, most, 6))[::-1] for most in (91, 11))
        made = curves((clean + wrong) / 100, [[int(c), int(w), 0, 0] for c, w in zip(clean, wrong, strict=True)])
        for lost in (0.0, 0.05, 0.2):
            assert made.at_price(lost)["clean_lost"].item() <= lost / 0.9 + 1e-9


def test_truth_changes_no_reading_that_is_told_nothing(pictured):
    task = pictured.task
    inputs, given = task.batch(task.ids)
    train = torch.isin(task.ids, task.train_ids)
    hidden = torch.where(train, -1, task.true(task.ids))
    blind = mm.ArrayTask(inputs, torch.where(train, given, hidden), hidden, train, n_classes=10)
    edits = ["curvature_directions", "low_rank", "drop(weight_norm(of=w))"]
    told = mm.edit_curves(pictured, edits).at_price(0.1)
    found = mm.edit_curves(mm.Subject(pictured.model, blind, pictured.roles), edits)
    columns = ["edit", "strength", "train", "test"]
    assert found.at_price(0.1)[columns].equals(told[columns])
    assert set(found.readings()["told"]) == {"nothing"} and found.to_frame()["train_clean"].isna().all()
    with pytest.raises(MissingNeedError, match="price of an edit"):
        found.at_price(0.1, "truth")
    assert isinstance(found.plot(), go.Figure)


def test_an_edit_without_a_dial_is_one_point(pictured, tiny_run):
    model = mm.ImageMLPConfig((24, 24), masks=mm.ExampleTied())
    config = dataclasses.replace(pictured.run.config, model=model, steps=5)
    tied = mm.edit_curves(mm.train(config, progress=False), ["drop_memory", "low_rank(rank=3)"])
    frame = tied.to_frame()
    assert frame["edit"].tolist() == ["raw", "drop_memory", "low_rank(rank=3)"]
    assert frame["strength"].tolist()[2] == 3 and math.isnan(frame["strength"][1]) and (frame["reason"] == "").all()
    pairs = mm.edit_curves(tiny_run, ["shared_subspaces", "drop", "curvature_directions"]).to_frame()
    assert pairs["reason"].iloc[-1] == "'curvature_directions' needs linear_layers"
    assert (pairs.groupby("edit").size() > 1).tolist() == [False, True, False, True]


def test_it_is_saved_and_drawn(pictured, tmp_path):
    found = mm.edit_curves(pictured, {"drop(weight_norm(of=w))": [1e-9, 0.5, 1.0]})
    assert found.reasons[1] and not found.reasons[2] and found.reasons[3]
    found.save(tmp_path / "curves.safetensors")
    pd.testing.assert_frame_equal(mm.EditCurves.load(tmp_path / "curves.safetensors").to_frame(), found.to_frame())
    names = {each.name for each in found.plot().data}
    assert names == {"drop(weight_norm(of=w))"}
    assert len(found.readings()) == 6 and found.readings()["reason"].eq("").all()


@pytest.mark.parametrize(
    ("edits", "error", "message"),
    [
        ([], ConfigError, "at least one surgery"),
        (["low_rnk"], UnknownNameError, "Did you mean 'low_rank'"),
        (["class_mean"], UnknownNameError, "no surgery"),
        ({"drop_memory": [1]}, ConfigError, "no setting that makes 'drop_memory' stronger"),
        ({"low_rank": []}, ConfigError, "no values for 'low_rank'"),
        ({"low_rank": [2.5]}, ConfigError, "rank must be"),
        (["low_rank(layrs)"], UnknownNameError, "no parameter with at least two axes 'layrs'"),
    ],
)
def test_what_is_no_edit_is_refused(edits, error, message, pictured):
    with pytest.raises(error, match=message):
        mm.edit_curves(pictured, edits)
