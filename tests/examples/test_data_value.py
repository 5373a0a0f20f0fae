"""Data value on a planted set: wrong labels harm, duplicates are worth nothing, the only example of a class is."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

CONFIG = mm.TrainConfig(
    task=mm.ImageConfig(data="digits", train=150, test=150, noise=mm.LabelNoise(0.3)),
    model=mm.ImageMLPConfig((32,)),
    steps=150,
    batch_size=30,
    optimizer="sgd",
    lr=0.05,
    weight_decay=0.0,
    checkpoints=1,
)


@pytest.fixture(scope="module")
def subject():
    return mm.train(CONFIG, progress=False)


@pytest.mark.slow
def test_removing_wrong_labels_helps_and_removing_a_class_harms(subject, tmp_path):
    task = subject.task
    ids = task.train_ids
    wrong = ids[task.noisy]
    zeros = ids[task.true(ids) == 0]
    found = mm.data_value(subject, {"wrong": wrong, "zeros": zeros}, seeds=[4, 7])
    assert found.names == ("nothing", "wrong", "zeros") and found.counts.tolist() == [0, len(wrong), len(zeros)]
    assert (found.accuracy[1] > found.accuracy[0] + 0.03).all() and (found.loss[1] < found.loss[0]).all()
    again = mm.train(dataclasses.replace(CONFIG, seed=7, left_out=tuple(zeros.tolist())), progress=False)
    right = again.model(task.batch(task.test_ids)[0]).argmax(1) == task.true(task.test_ids)
    assert float(found.accuracy[2, 1]) == pytest.approx(float(right.double().mean()))
    frame = found.to_frame().set_index(["removed", "quantity"])
    difference = (found.accuracy[1] - found.accuracy[0]).numpy()
    row = frame.loc[("wrong", "accuracy")]
    half = stats.t.ppf(0.975, 1) * difference.std(ddof=1) / 2**0.5
    assert row["more"] == pytest.approx(difference.mean()) and row["more_high"] == pytest.approx(
        difference.mean() + half
    )
    assert found.compare("wrong", "nothing")["value"] == pytest.approx(difference.mean())
    with pytest.raises(UnknownNameError, match="accuracy"):
        found.compare("wrong", "nothing", "acuracy")
    found.save(tmp_path / "value.safetensors")
    assert mm.DataValue.load(tmp_path / "value.safetensors").to_frame().equals(found.to_frame())
    assert len(found.plot().data) == 4


def test_examples_to_remove_are_chosen_by_a_score(subject):
    table = mm.example_scores(subject, "loss")
    found = mm.choose_removals(table, "loss", 10)
    frame = table.to_frame().set_index("id")["loss"]
    noisy = dict(zip(table.ids.tolist(), (table.true != table.given).tolist(), strict=True))
    clean = frame[[id for id in frame.index if not noisy[id]]].sort_values()
    assert set(found["easy"].tolist()) == set(clean.index[:10]) and set(found["difficult"].tolist()) == set(
        clean.index[-10:]
    )
    assert all(noisy[id] for id in found["wrong"].tolist())
    assert found["suspect"].tolist() == frame.sort_values(ascending=False, kind="stable").index[:10].tolist()
    assert len(np.unique(found["random"])) == 10
    unknown = mm.choose_removals(dataclasses.replace(table, true=None), "loss", 10)
    assert set(unknown) == {"suspect", "random"} and torch.equal(unknown["suspect"], found["suspect"])
    with pytest.raises(ConfigError, match="149 wrong examples cannot be removed"):
        mm.choose_removals(table, "loss", 149, kinds=["wrong"])
    with pytest.raises(ConfigError, match="151 random examples cannot be removed"):
        mm.choose_removals(table, "loss", 151)
    with pytest.raises(UnknownNameError, match="difficult"):
        mm.choose_removals(table, "loss", 10, kinds=["dificult"])
    with pytest.raises(ConfigError, match="needs true labels, which are not known"):
        mm.choose_removals(dataclasses.replace(table, true=None), "loss", 10, kinds=["easy"])


def test_of_clean_data_difficult_and_easy_examples_can_be_removed_and_none_is_both(subject):
    clean = dataclasses.replace(mm.example_scores(subject, "loss"), given=subject.task.true(subject.task.sources))
    assert set(mm.choose_removals(clean, "loss", 75)) == {"suspect", "random", "difficult", "easy"}
    chosen = mm.choose_removals(clean, "loss", 75, kinds=["easy", "difficult"])
    assert not set(chosen["easy"].tolist()) & set(chosen["difficult"].tolist())
    assert set(mm.choose_removals(clean, "loss", 76)) == {"suspect", "random"}


def test_what_cannot_be_removed_is_refused(subject):
    ids = subject.task.train_ids
    for removed, message in (
        ({}, "by name"),
        ({"nothing": ids[:2]}, "other than .nothing."),
        ({"x": []}, "at least one"),
        ({"x": ids[:2], "y": subject.task.sources}, "'y' are all training examples"),
    ):
        with pytest.raises(ConfigError, match=message):
            mm.data_value(subject, removed, seeds=1)
    for seeds in (0, -1, True, [], [1, 1], [-1]):
        with pytest.raises(ConfigError, match="seed"):
            mm.data_value(subject, {"x": ids[:2]}, seeds=seeds)
    with pytest.raises(ConfigError, match="'x' must be training examples"):
        mm.data_value(subject, {"x": subject.task.test_ids[:1]}, seeds=[5])
    with pytest.raises(ConfigError, match="'x' must be distinct ids"):
        mm.data_value(subject, {"x": ids[[0, 1, 0]]}, seeds=[5])
    with pytest.raises(MissingNeedError, match="needs the training config"):
        mm.data_value(mm.Subject(subject.model, subject.task), {"x": ids[:2]})
