import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mechmem.core.stats import (
    across_runs,
    bootstrap,
    matching_z_score,
    proportion,
    rank_correlation,
    rank_correlations,
    wilson,
)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_closed_formula(counts):
    k, n = counts
    z = scipy.stats.norm.ppf(0.975)
    centre = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(k * (n - k) / n + z**2 / 4)
    found = wilson(k, n)
    assert (found.value, found.n) == (k / n, n)
    assert found.low == pytest.approx(centre - half, abs=1e-12)
    assert found.high == pytest.approx(centre + half, abs=1e-12)


def test_nothing_counted_is_no_estimate():
    assert wilson(0, 0) is None


def test_a_proportion_is_of_true_outcomes():
    outcomes = np.array([True, False, True, True])
    assert proportion(outcomes) == proportion(torch.from_numpy(outcomes)) == wilson(3, 4)
    assert proportion(outcomes[:0]) is None
    assert across_runs([]) is None


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_across_runs_is_the_student_interval(values):
    found = across_runs(values)
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    assert found.n == len(values)
    assert found.value == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert found.high - found.value == pytest.approx(half, abs=1e-9)
    assert found.value - found.low == pytest.approx(half, abs=1e-9)


def test_one_run_says_nothing_about_the_spread():
    found = across_runs([0.5])
    assert (found.value, found.low, found.high, found.n) == (0.5, -math.inf, math.inf, 1)


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(3, 2, (200, 40))
    covered = [
        e.low <= 3 <= e.high for e in (bootstrap(np.mean, [sample], seed=1, resamples=400) for sample in samples)
    ]
    assert 0.88 <= np.mean(covered) <= 0.985


def test_bootstrap_resamples_columns_together():
    def ratio(top, bottom, axis):
        return top.sum(axis) / bottom.sum(axis)

    bottom = np.random.default_rng(0).uniform(1, 9, 30)
    top = 2 * bottom + np.random.default_rng(1).uniform(-1e-6, 1e-6, 30)
    found = bootstrap(ratio, [top, bottom], seed=0, resamples=200)
    assert found.value == pytest.approx(2) and found.low == pytest.approx(2) and found.high == pytest.approx(2)


def test_bootstrap_is_seeded_and_knows_when_it_knows_nothing():
    column = np.random.default_rng(0).normal(size=20)
    assert bootstrap(np.mean, [column], seed=3) == bootstrap(np.mean, [column], seed=3)
    assert bootstrap(np.mean, [column], seed=3) != bootstrap(np.mean, [column], seed=4)
    single = bootstrap(np.mean, [column[:1]], seed=0)
    assert (single.low, single.high, single.n) == (-math.inf, math.inf, 1)


def test_bootstrap_of_a_constant():
    found = bootstrap(np.mean, [np.ones(12)], seed=0, resamples=100)
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize("n", [1, 12, 100])
def test_units_that_all_agree_allow_a_share_of_others(n):
    """With a share of 1 − .05^(1/n) at the lower bound, n units without one are seen once in twenty times."""
    found = bootstrap(np.mean, [np.full(n, 0.5)], seed=0, resamples=100, bounds=(-1.0, 1.0))
    share = (0.5 - found.low) / 1.5
    assert (1 - share) ** n == pytest.approx(0.05) and (found.high - 0.5) / 0.5 == pytest.approx(share)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_matching_z_is_exact_over_all_permutations(n):
    scores = np.random.default_rng(n).normal(size=(n, n)) + 3 * np.eye(n)
    sums = [sum(scores[i, c] for i, c in enumerate(perm)) for perm in itertools.permutations(range(n))]
    assert matching_z_score(scores) == pytest.approx((np.trace(scores) - np.mean(sums)) / np.std(sums), abs=1e-10)


def test_matching_z_against_drawn_permutations():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 40)) + 0.3 * np.eye(40)
    sums = [scores[np.arange(40), rng.permutation(40)].sum() for _ in range(20000)]
    assert matching_z_score(scores) == pytest.approx((np.trace(scores) - np.mean(sums)) / np.std(sums), abs=0.05)


@given(hnp.arrays(float, (5, 5), elements=st.floats(-5, 5)), st.floats(0.01, 100), st.integers(0, 4))
def test_matching_z_ignores_scale_and_what_no_matching_changes(scores, scale, which):
    reference = matching_z_score(scores)
    effects = np.zeros((5, 5))
    effects[which] += 2.0
    effects[:, which] -= 1.0
    if np.ptp(scores) < 1e-3:
        return
    assert matching_z_score(scale * scores) == pytest.approx(reference, abs=1e-6)
    assert matching_z_score(scores + effects) == pytest.approx(reference, abs=1e-6)
    assert matching_z_score(-scores) == pytest.approx(-reference, abs=1e-6)


def test_matching_z_of_what_holds_no_matching_is_zero():
    row, column = np.arange(6.0), np.arange(6.0)[:, None] ** 2
    for scores in (np.zeros((6, 6)), np.full((6, 6), 0.1), row + column, np.zeros((1, 1))):
        assert matching_z_score(scores) == 0


def test_matching_z_needs_a_square():
    with pytest.raises(ValueError, match="square"):
        matching_z_score(np.zeros((3, 4)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_the_rank_correlation_is_scipys_with_ties(pairs):
    one, other = np.array(pairs, dtype=float).T
    found = rank_correlation(np.stack([one, one]), np.stack([other, -other]))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert (found == 0).all()
    else:
        rho = scipy.stats.spearmanr(one, other).statistic
        assert np.allclose(found, [rho, -rho])


def test_all_rank_correlations_are_scipys_and_a_constant_series_has_none():
    draw = np.random.default_rng(0)
    series = draw.integers(0, 5, (3, 40)).astype(float)
    found = rank_correlations(np.concatenate([series, np.full((1, 40), 2.0)]))
    np.testing.assert_allclose(found[:3, :3], scipy.stats.spearmanr(series, axis=1).statistic)
    assert np.isnan(found[3]).all() and np.isnan(found[:, 3]).all()
    assert rank_correlations(np.empty((0, 40))).shape == (0, 0)
