"""The ratio of two means: what is planted, how often its interval holds it, and what has none."""

import math

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from mechmem.math.comparisons import ratio_of_means


def test_the_interval_holds_the_ratio_as_often_as_it_says():
    of = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        found = ratio_of_means(torch.from_numpy(of.gamma(9, 2, 12)), torch.from_numpy(of.gamma(4, 3, 30)))
        held += found.low <= 18 / 12 <= found.high
    assert 0.93 <= held / 600 <= 0.975


def test_it_agrees_with_the_bootstrap_of_two_samples():
    of = np.random.default_rng(1)
    top, bottom = of.gamma(9, 2, 300), of.gamma(4, 3, 500)
    found = ratio_of_means(torch.from_numpy(top), torch.from_numpy(bottom))
    drawn = scipy_stats.bootstrap(
        (top, bottom), lambda a, b, axis: a.mean(axis) / b.mean(axis), rng=np.random.default_rng(0), method="percentile"
    ).confidence_interval
    assert found.value == pytest.approx(top.mean() / bottom.mean()) and found.n == 800
    assert (found.low, found.high) == (pytest.approx(drawn.low, abs=0.01), pytest.approx(drawn.high, abs=0.01))


def test_what_has_no_ratio_and_what_has_no_interval():
    one, two, none = torch.ones(1), 2 * torch.ones(5), torch.zeros(0)
    assert ratio_of_means(none, two) is None and ratio_of_means(two, none) is None
    assert ratio_of_means(two, torch.zeros(4)) is None and ratio_of_means(torch.zeros(4), two) is None
    single = ratio_of_means(two, one)
    assert (single.value, single.low, single.high) == (2, 0, math.inf)
    exact = ratio_of_means(two, torch.ones(3))
    assert (exact.value, exact.low, exact.high, exact.n) == (2, 2, 2, 8)
