"""Shapley values by their definition, and the datamodeling score of planted models: known influences score high."""

import itertools
from math import comb

import numpy as np
import pytest
import torch

from mechmem.math.attribution import datamodeling_correlations, datamodeling_score, knn_shapley


def ridge(inputs, labels, strength=5.0):
    return np.linalg.solve(inputs.T @ inputs + strength * np.eye(inputs.shape[1]), inputs.T @ labels)


@pytest.fixture(scope="module")
def planted():
    """Ridge regression trained again on random subsets, with its influence function, which is exact to first order."""
    draw = np.random.default_rng(0)
    inputs, tests = draw.normal(size=(120, 6)), draw.normal(size=(15, 6))
    labels = inputs @ draw.normal(size=6) + draw.normal(size=120)
    member = np.zeros((60, 120), dtype=bool)
    for row in member:
        row[draw.choice(120, 100, replace=False)] = True
    outputs = np.stack([tests @ ridge(inputs[row], labels[row]) for row in member])
    whole = ridge(inputs, labels)
    inverse = np.linalg.inv(inputs.T @ inputs + 5.0 * np.eye(6))
    influence = (tests @ inverse @ inputs.T) * (labels - inputs @ whole)
    return influence, member, outputs


def test_exact_influences_predict_other_trainings(planted):
    found = datamodeling_score(*planted, seed=0, resamples=200)
    assert found.value > 0.95 and 0.9 < found.low < found.value <= found.high <= 1 and found.n == 15


def test_a_permutation_of_them_does_not(planted):
    influence, member, outputs = planted
    permuted = influence[:, np.random.default_rng(1).permutation(influence.shape[1])]
    found = datamodeling_score(permuted, member, outputs, seed=0, resamples=200)
    assert abs(found.value) < 0.15 and found.low < 0 < found.high
    assert datamodeling_score(-influence, member, outputs, seed=0, resamples=20).value < -0.95


def test_sums_that_are_the_outputs_score_1(planted):
    influence, member, _ = planted
    outputs = member.astype(float) @ influence.T
    np.testing.assert_allclose(datamodeling_correlations(influence, member, outputs), 1)


def test_the_interval_covers_the_networks(planted):
    """Over targets that all agree, only other networks can change the score."""
    influence, member, outputs = planted
    same = datamodeling_score(
        np.repeat(influence[:1], 15, 0), member, np.repeat(outputs[:, :1], 15, 1), seed=0, resamples=200
    )
    assert same.low < same.value < same.high


def value(distances, same, chosen, k):
    nearest = sorted(chosen, key=lambda place: float(distances[place]))[:k]
    return sum(float(same[place]) for place in nearest) / k


def by_definition(distances, same, k):
    """Mean marginal value over all sets of the other players."""
    players = [place for place in range(len(distances)) if distances[place].isfinite()]
    found = torch.zeros(len(distances), dtype=torch.float64)
    for player in players:
        others = [each for each in players if each != player]
        for size in range(len(players)):
            for chosen in itertools.combinations(others, size):
                gain = value(distances, same, [*chosen, player], k) - value(distances, same, chosen, k)
                found[player] += gain / (len(players) * comb(len(others), size))
    return found


@pytest.mark.parametrize("k", [1, 2, 3, 8, 20])
def test_values_are_shapley_s(k):
    draw = torch.Generator().manual_seed(k)
    distances = torch.rand(3, 8, generator=draw, dtype=torch.float64)
    distances[1, 2] = distances[2, 7] = torch.inf
    same = torch.rand(3, 8, generator=draw) < 0.4
    found = knn_shapley(distances, same, k)
    for row in range(3):
        torch.testing.assert_close(found[row], by_definition(distances[row], same[row], k), rtol=0, atol=1e-12)
    assert found[1, 2] == found[2, 7] == 0


def test_the_values_add_up_to_the_vote_of_all():
    draw = torch.Generator().manual_seed(0)
    distances, same = torch.rand(5, 200, generator=draw), torch.rand(5, 200, generator=draw) < 0.3
    found = knn_shapley(distances, same, 7)
    nearest = distances.argsort(1)[:, :7]
    torch.testing.assert_close(found.sum(1), same.gather(1, nearest).double().mean(1))


def test_at_equal_distances_the_first_example_is_nearer():
    found = knn_shapley(torch.zeros(1, 3), torch.tensor([[True, False, False]]), 1)
    turned = knn_shapley(torch.tensor([[0.0, 1, 2]]), torch.tensor([[True, False, False]]), 1)
    assert torch.equal(found, turned)
