"""Statistics of held-out structure against plain loops."""

import itertools

import numpy as np
import pytest
import torch

from mechmem.core.stats import matching_z_score
from mechmem.scorecard.evidence import (
    SameAnswer,
    shift_margin,
    standardised_residual,
    summed_by,
    unexplained_z_score,
)

N = 5


@pytest.fixture
def cells():
    draw = np.random.default_rng(0)
    pairs = np.array(list(itertools.product(range(N), repeat=2)))[draw.permutation(N * N)[:17]]
    z = draw.normal(size=(17, 4))
    return pairs, z - z.mean(1, keepdims=True)


def test_agreement_leaves_out_mirror_images_and_unknown_answers(cells):
    pairs, z = cells
    answer = (pairs.sum(1) % 3) - 1
    kept = [
        z[i] @ z[j] / 4
        for i, j in itertools.permutations(range(17), 2)
        if answer[i] == answer[j] >= 0 and tuple(pairs[i]) != tuple(pairs[j][::-1])
    ]
    assert any(tuple(one) == tuple(other[::-1]) for one, other in itertools.combinations(pairs, 2))
    assert SameAnswer.of(z, pairs).value(answer) == pytest.approx(np.mean(kept))


def test_a_network_that_agrees_with_its_mirror_image_alone_has_no_agreement():
    draw = np.random.default_rng(1)
    pairs = np.array(list(itertools.product(range(11), repeat=2)))
    logits = draw.normal(size=(11, 11, 11))
    z = (logits + logits.transpose(1, 0, 2))[pairs[:, 0], pairs[:, 1]]
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    assert abs(SameAnswer.of(z, pairs).value(pairs.sum(1) % 11)) < 0.03
    assert SameAnswer(z, np.full(len(z), -1)).value(pairs.sum(1) % 11) > 0.06


def test_the_margin_is_that_of_an_explicit_loop_over_shifts(cells):
    pairs, z = cells
    truth = pairs.sum(1) % 4
    summed = summed_by(z, truth, 4)
    shifts = (np.arange(4) + np.arange(1, 4)[:, None]) % 4
    kappa = [np.mean([z[i, (truth[i] + s) % 4] for i in range(17)]) / np.sqrt(3) for s in range(4)]
    null = [sum(summed[a, order[a]] for a in range(4)) for order in itertools.permutations(range(4))]
    deviation = np.std(null) / 17 / np.sqrt(3)
    margin, best, highest = shift_margin(summed, 17, shifts)
    assert margin == pytest.approx((kappa[0] - max(kappa[1:])) / deviation)
    assert highest == pytest.approx(max(kappa)) and best == (None if np.argmax(kappa) == 0 else np.argmax(kappa) - 1)


def test_what_other_predictors_explain_is_subtracted_by_least_squares(cells):
    pairs, z = cells
    truth = pairs.sum(1) % 4
    draw = np.random.default_rng(2)
    others = list(draw.normal(size=(2, 17, 4)))
    design = np.stack([each.ravel() for each in others], axis=1)
    left = z.ravel() - design @ np.linalg.lstsq(design, z.ravel(), rcond=None)[0]
    expected = matching_z_score(summed_by(left.reshape(-1, 4), truth, 4))
    assert unexplained_z_score(z, truth, others) == pytest.approx(expected)
    assert unexplained_z_score(others[0] - 2 * others[1], truth, others) == 0


def test_values_that_are_not_read_change_nothing():
    draw = torch.Generator().manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(N), torch.arange(N))
    logits = torch.randn(N * N, 6, generator=draw, dtype=torch.float64)
    missing = torch.randint(-1, 6, (N * N,), generator=draw)
    cell = (missing >= 0).nonzero()[:, 0]
    changed = logits.clone()
    changed[cell, missing[cell]] = 1e9
    before, after = (standardised_residual(each, pairs, N, missing) for each in (logits, changed))
    torch.testing.assert_close(after, before)
    assert (before[cell, missing[cell]] == 0).all() and before.sum(1).abs().max() < 1e-9
