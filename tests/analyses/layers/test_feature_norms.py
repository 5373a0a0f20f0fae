"""Norms that are planted, and ratios of them."""

import numpy as np
import pytest
import torch
from held_layers import held

from mechmem.analyses.layers.feature_norms import FeatureNorms

N = 40
TRAIN = torch.arange(N) < 30
TRUE = torch.arange(N) % 3
NOISY = TRAIN & (torch.arange(N) % 5 == 0)
GIVEN = torch.where(NOISY, (TRUE + 1) % 3, TRUE)


def directions(*shape, seed=0):
    drawn = torch.randn(N, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.flatten(1).norm(dim=1).view(N, *[1] * len(shape))


def sized(size, *shape, seed=0):
    return directions(*shape, seed=seed) * size.view(N, *[1] * len(shape))


def test_planted_norms_are_found():
    size = torch.where(NOISY, 6.0, 3.0).double()
    size[~TRAIN] = 4.5
    spread = size * torch.where(torch.arange(N) % 2 == 0, 1.5, 0.5)
    result = FeatureNorms()(held(GIVEN, TRUE, TRAIN, sized(size, 4), sized(spread, 2, 3, 3, seed=1)))
    assert result.features.tolist() == [4, 18]
    frame = result.to_frame().set_index(["layer", "split"]).loc["layers.0.hook_hidden"]
    np.testing.assert_allclose(frame["norm"], [3, 6, 4.5], rtol=1e-12)
    mean = (24 * 3 + 6 * 6) / 30
    np.testing.assert_allclose(frame["relative"], np.array([3, 6, 4.5]) / mean, rtol=1e-12)
    np.testing.assert_allclose(frame["std"], 0, atol=1e-12)
    assert frame["n"].tolist() == [24, 6, 10]
    second = result.to_frame().set_index(["layer", "split"]).loc["layers.1.hook_hidden"]
    assert second.loc["test", "std"] == pytest.approx(spread[~TRAIN].std())
    assert second.loc["test", "low"] < second.loc["test", "norm"] < second.loc["test", "high"]
    ratios = result.ratios().set_index(["layer", "ratio"]).loc["layers.0.hook_hidden"]
    assert ratios["value"].to_dict() == pytest.approx({"train_noisy / train_clean": 2, "test / train_clean": 1.5})
    assert ratios["n"].tolist() == [30, 34]
    drawn = {trace.name: trace.y for trace in result.plot().data if trace.mode == "lines+markers"}
    assert drawn["test"][0] == pytest.approx(4.5 / mean)


def test_many_examples_are_read_in_blocks(monkeypatch):
    subject = held(GIVEN, TRUE, TRAIN, directions(4), directions(3) * 2)
    whole = FeatureNorms()(subject)
    monkeypatch.setattr("mechmem.analyses.layers.feature_norms.ROWS", 7)
    assert torch.equal(FeatureNorms()(subject).norm, whole.norm)


def test_pooled_maps_are_measured_after_averaging():
    maps = torch.ones(N, 2, 4, 4, dtype=torch.float64)
    maps[:, 1, ::2] = -1
    found = FeatureNorms(pool="mean")(held(GIVEN, TRUE, TRAIN, maps))
    assert found.features.tolist() == [2] and torch.equal(found.norm, torch.ones(1, N, dtype=torch.float64))


def test_splits_that_are_empty_or_not_known_and_layers_that_are_silent():
    none = FeatureNorms()(held(TRUE, TRUE, TRAIN, directions(4), torch.zeros(N, 2)))
    frame = none.to_frame().set_index(["layer", "split"])
    assert np.isnan(frame.loc[("layers.0.hook_hidden", "train_noisy"), "norm"])
    assert np.isnan(frame.loc["layers.1.hook_hidden", "relative"].to_numpy()).all()
    ratios = none.ratios().set_index(["layer", "ratio"])["value"]
    assert ratios.isna().tolist() == [True, False, True, True] and len(none.plot().data)
    unknown = FeatureNorms()(held(TRUE, torch.where(TRAIN, -1, TRUE), TRAIN, directions(4)))
    assert unknown.splits == ("train", "test") and unknown.ratios()["ratio"].tolist() == ["test / train"]
    assert unknown.to_frame()["relative"].tolist() == pytest.approx([1, 1])
