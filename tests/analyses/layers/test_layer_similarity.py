"""Layers that are each other's rotations, twins that exist and that do not."""

import numpy as np
import pytest
import torch
from held_layers import Twins, held
from linear_cka import linear_cka

import mechmem as mm
from mechmem.analyses.layers.layer_similarity import LayerSimilarity
from mechmem.errors import ConfigError, UnknownNameError

N = 50
TRAIN = torch.arange(N) < 30
TRUE = torch.arange(N) % 3
GIVEN = torch.where(TRAIN & (torch.arange(N) % 5 == 0), (TRUE + 1) % 3, TRUE)


def table(width, seed):
    return torch.randn(N, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FIRST, LAST = table(6, 0), table(4, 1)
ROTATED = FIRST @ torch.linalg.qr(table(6, 2)[:6]).Q * 3 + 1


def network(*tables):
    return held(GIVEN, TRUE, TRAIN, *tables).model


def planted(given=GIVEN, true=TRUE, **twins):
    return held(given, true, TRAIN, FIRST, LAST, retrainer=Twins(**twins))


TWINS = {"untrained": network(table(6, 5), table(4, 6)), "clean_labels": network(ROTATED, table(4, 7))}


@pytest.mark.parametrize("debiased", [True, False])
def test_a_layer_that_wrong_labels_left_alone_is_the_twins_up_to_a_rotation(debiased):
    result = LayerSimilarity(debiased=debiased)(planted(**TWINS))
    frame = result.to_frame().set_index(["split", "other", "layer"])["value"]
    assert result.note == "" and result.n.tolist() == [30, 20]
    for split, ids in (("train", TRAIN), ("test", ~TRAIN)):
        assert frame.loc[(split, "clean_labels", "layers.0.hook_hidden")] == pytest.approx(1)
        for other, twin in TWINS.items():
            for i, own in enumerate((FIRST, LAST)):
                for j, theirs in enumerate(twin.tables):
                    expected = linear_cka(own[ids], theirs.detach()[ids], debiased=debiased)
                    assert result.matrix(other, split).iloc[i, j] == pytest.approx(expected, abs=1e-12)
    itself = result.matrix("itself", "train").to_numpy()
    np.testing.assert_allclose(np.diag(itself), 1)
    np.testing.assert_allclose(itself, itself.T)
    assert frame.loc[("test", "clean_labels", "layers.1.hook_hidden")] < 0.6


def test_figures_have_a_line_per_twin_and_a_map_per_network():
    result = LayerSimilarity()(planted(**TWINS))
    assert {trace.name for trace in result.plot().data} == {"trained on true labels", "before training"}
    maps = result.plot("heatmap", "train").data
    assert len(maps) == 3
    np.testing.assert_allclose(maps[2].z, result.matrix("clean_labels", "train"), rtol=1e-6)
    with pytest.raises(ConfigError, match="'lines' or 'heatmap'"):
        result.plot("bars")
    with pytest.raises(UnknownNameError, match="no network 'twin'"):
        result.matrix("twin")


def test_a_twin_that_cannot_be_made_is_a_reason_and_no_number():
    result = LayerSimilarity()(planted(untrained=TWINS["untrained"], clean_labels="no label noise to remove"))
    assert result.note == "no clean-label twin: no label noise to remove"
    values = result.to_frame().set_index(["other", "split"])["value"]
    assert values.loc["clean_labels"].isna().all() and values.loc["untrained"].notna().all()
    assert len(result.plot("heatmap").data) == 2
    bare = LayerSimilarity()(held(GIVEN, TRUE, TRAIN, FIRST))
    assert "the network has no retrainer" in bare.note and bare.to_frame()["value"].isna().all()
    assert float(bare.matrix("itself").iloc[0, 0]) == pytest.approx(1)
    assert len(bare.plot("heatmap").data) == 1
    bare.plot()


def test_without_wrong_labels_no_twin_is_trained():
    retrainer = Twins(**TWINS)
    result = LayerSimilarity()(held(TRUE, TRUE, TRAIN, FIRST, LAST, retrainer=retrainer))
    assert "no training label is wrong" in result.note and retrainer.made == ["untrained"]


def test_twins_are_made_once_for_a_whole_run():
    subject = planted(**TWINS)
    measure = LayerSimilarity().for_run(subject)
    first, second = measure(subject), measure(subject.with_model(network(ROTATED, LAST)))
    assert subject.retrainer.made == ["untrained", "clean_labels"]
    assert float(first.value[0, 2, 0, 0]) == pytest.approx(1) and float(second.value[0, 2, 0, 0]) == pytest.approx(1)


def test_examples_are_limited_and_too_few_are_said():
    result = LayerSimilarity(limit=12)(planted(**TWINS))
    assert result.n.tolist() == [12, 12] and torch.equal(
        result.value, LayerSimilarity(limit=12)(planted(**TWINS)).value
    )
    train = torch.arange(N) < N - 2
    few = LayerSimilarity()(held(TRUE, torch.where(train, -1, TRUE), train, FIRST, FIRST * 0 + 0.1))
    assert "test has 2 examples, too few" in few.note
    values = few.matrix("itself", "train").to_numpy()
    assert values[0, 0] == pytest.approx(1) and np.isnan(values[1]).all() and np.isnan(values[0, 1])
    assert few.matrix("itself", "test").isna().to_numpy().all()
    with pytest.raises(ConfigError, match="limit"):
        LayerSimilarity(limit=3)
    with pytest.raises(ConfigError, match="debiased"):
        LayerSimilarity(debiased="yes")


def test_a_trained_network_has_both_twins(tiny_run):
    result = LayerSimilarity()(tiny_run)
    assert result.note == "" and result.to_frame()["value"].notna().all()
    zero = mm.over_training(tiny_run, "layer_similarity", steps=[0, 30]).frame("layer_similarity")
    start = zero.loc[(zero["step"] == 0) & (zero["other"] == "untrained"), "value"]
    np.testing.assert_allclose(start, 1)
