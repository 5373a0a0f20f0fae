"""Clouds that are planted: memorized examples, restored ones, and what is too small."""

import numpy as np
import pandas as pd
import pytest
import torch
from held_layers import Twins, held

import mechmem as mm
from mechmem.analyses.layers.class_manifolds import ClassManifolds
from mechmem.errors import ConfigError
from mechmem.math.representations import corrected_participation_ratio, participation_ratio, radius_of_chance

CLASSES, PER_CLASS, WIDTH = 4, 60, 12
N = CLASSES * PER_CLASS
TRUE = torch.arange(N) % CLASSES
TRAIN = torch.arange(N) < N * 3 // 4
NOISY = TRAIN & (torch.arange(N) // CLASSES % 3 == 0)
GIVEN = torch.where(NOISY, (TRUE + 1 + torch.arange(N) // CLASSES // 3 % (CLASSES - 1)) % CLASSES, TRUE)


def clouds(labels, dimension, apart=40.0, seed=0):
    """A round cloud of each label in the first dimensions, its centre on an axis of its own behind them."""
    of = torch.Generator().manual_seed(seed)
    found = torch.zeros(len(labels), WIDTH, dtype=torch.float64)
    found[:, :dimension] = torch.randn(len(labels), dimension, generator=of, dtype=torch.float64)
    found[torch.arange(len(labels)), WIDTH - CLASSES + labels] += apart
    return found


def planted(*tables, true=TRUE, given=GIVEN, **parts):
    tables = tables or (clouds(TRUE, 3), clouds(GIVEN, 6, seed=1))
    return held(given, true, TRAIN, *tables, **parts)


def values(result, quantity, network="trained"):
    frame = result.to_frame()
    frame = frame.loc[(frame["quantity"] == quantity) & (frame["network"] == network)]
    return frame.pivot(index="split", columns="layer", values="value")


def rows_of(result, split):
    frame = result.classes()
    first = (frame["network"] == "trained") & (frame["layer"] == "layers.0.hook_hidden")
    return frame.loc[first & (frame["split"] == split)].set_index("class")


def test_dimensions_that_are_planted_are_found_whatever_the_number_of_examples():
    result = ClassManifolds()(planted())
    assert result.points == 15 and result.counts.min(1).values.tolist() == [45, 30, 15, 15, 15]
    found = values(result, "corrected_dimension")
    for split in ("train_clean", "train_noisy_true", "test"):
        assert found.loc[split, "layers.0.hook_hidden"] == pytest.approx(3, rel=0.2)
    for split in ("train", "train_clean", "train_noisy"):
        assert found.loc[split, "layers.1.hook_hidden"] == pytest.approx(6, rel=0.2)
    assert (values(result, "dimension")["layers.1.hook_hidden"] < 5).all()


def test_memorized_examples_are_small_by_given_labels_where_the_layer_holds_them_and_by_true_ones_before():
    result = ClassManifolds()(planted())
    radius = values(result, "radius")
    first, last = radius["layers.0.hook_hidden"], radius["layers.1.hook_hidden"]
    small = 0.15
    assert first["train_clean"] < small and first["train_noisy_true"] < small and first["test"] < small
    assert last["train_clean"] < small and last["train_noisy"] < small and last["train"] < small
    # Examples of all other classes: as if the centres were one.
    assert first["train_noisy"] > 1 and last["train_noisy_true"] > 1


def test_classes_are_numpys_on_the_examples_that_were_drawn():
    subject = planted(clouds(TRUE, 3))
    result = ClassManifolds(per_class=200)(held(TRUE, TRUE, TRAIN, clouds(TRUE, 3)))
    # Without noise: of the clean and all training examples 45 a class, of the test examples 15, which all clouds have.
    assert result.points == 15 and "train_noisy is empty" in result.note
    rows = rows_of(result, "test")
    table = subject.model.tables[0]
    for label in range(CLASSES):
        points = table[~TRAIN & (TRUE == label)][None]
        assert rows.loc[label, "dimension"] == pytest.approx(float(participation_ratio(points)))
        assert rows.loc[label, "corrected_dimension"] == pytest.approx(float(corrected_participation_ratio(points)))
    centres = np.stack([table[~TRAIN & (TRUE == label)].numpy().mean(0) for label in range(CLASSES)])
    spread = np.trace(np.cov(table[~TRAIN & (TRUE == 0)].numpy().T))
    expected = np.sqrt(spread) / np.linalg.norm(centres[0] - centres.mean(0))
    assert rows.loc[0, "radius"] == pytest.approx(expected) and (rows["count"] == 15).all()
    means = values(result, "dimension")
    assert means.loc["test"].iloc[0] == pytest.approx(1 / (1 / rows["dimension"]).mean())
    assert values(result, "radius").loc["test"].iloc[0] == pytest.approx((rows["radius"] ** -2).mean() ** -0.5)
    assert np.isnan(means.loc["train_noisy"].iloc[0])


def test_before_training_is_measured_on_the_same_examples():
    before = planted(clouds(TRUE, 2), clouds(TRUE, 8, apart=0, seed=3)).model
    result = ClassManifolds()(planted(retrainer=Twins(untrained=before)))
    assert values(result, "corrected_dimension", "untrained").loc["test"].iloc[0] == pytest.approx(2, rel=0.2)
    radius = values(result, "radius", "untrained")["layers.1.hook_hidden"]
    assert radius["test"] == pytest.approx(radius_of_chance(15, CLASSES), rel=0.3)
    assert result.note == "" and len(result.plot().data) > len(ClassManifolds()(planted()).plot().data)
    assert "no untrained twin" in ClassManifolds()(planted()).note


def test_classes_without_enough_examples_have_no_cloud():
    few = GIVEN.clone()
    gone = (GIVEN == 0) & NOISY
    few[gone.nonzero().flatten()[3:]] = TRUE[gone.nonzero().flatten()[3:]]
    result = ClassManifolds()(planted(given=few))
    rows = rows_of(result, "train_noisy")
    assert rows["count"].tolist() == [3, 15, 15, 15] and result.points == 11
    assert rows["dimension"].isna().tolist() == [True, False, False, False]
    none = ClassManifolds(per_class=500, fewest=500)(planted())
    assert none.points == 0 and "no class has 500 examples" in none.note and none.to_frame()["value"].isna().all()
    none.plot()


def test_clouds_that_are_a_point_and_centres_that_are_one():
    corner = 5.0 * torch.nn.functional.one_hot(TRUE, CLASSES).double()
    result = ClassManifolds(per_class=14)(held(TRUE, TRUE, TRAIN, corner, corner * 0 + 0.1))
    frame = result.to_frame().set_index(["quantity", "network", "layer", "split"]).sort_index()
    rays = frame.loc[("radius", "trained", "layers.0.hook_hidden", "test")]
    assert rays["value"] == rays["low"] == 0 and rays["n"] == CLASSES
    assert frame.loc[("corrected_dimension", "trained", "layers.0.hook_hidden", "test"), "n"] == 0
    assert np.isnan(frame.loc[("radius", "trained", "layers.1.hook_hidden", "test"), "value"])
    # The same points in every class.
    same = torch.arange(N)[:, None].double() // CLASSES
    one = ClassManifolds()(held(TRUE, TRUE, TRAIN, same))
    assert (rows_of(one, "test")["radius"] > 1e6).all() and len(one.plot().data)
    assert values(one, "radius").loc["test"].iloc[0] > 1e6


def test_labels_that_are_not_known():
    result = ClassManifolds()(planted(true=torch.where(TRAIN, -1, TRUE)))
    assert "not known" in result.note and result.counts[1:4].sum() == 0
    known = set(result.to_frame().dropna(subset=["value"])["split"])
    assert known == {"train", "test"}


def test_settings_are_checked_and_results_are_those_of_the_seed():
    with pytest.raises(ConfigError, match="fewest"):
        ClassManifolds(fewest=3)
    with pytest.raises(ConfigError, match="per_class"):
        ClassManifolds(per_class=4, fewest=5)
    one, two, other = (ClassManifolds(per_class=6, seed=seed)(planted()).to_frame() for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(other)


def test_it_is_measured_over_training(tiny_run):
    curves = mm.over_training(tiny_run, ["class_manifolds", "feature_norms", "prediction_depth(k=3)"], steps=[0, 30])
    assert set(curves.frame("class_manifolds")["step"]) == {0, 30} and len(curves.plot().data)
    assert "reason" not in curves.frame("prediction_depth(k=3)")
