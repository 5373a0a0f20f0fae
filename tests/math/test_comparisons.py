"""Paired comparisons: worked examples from the literature, and coverage counted out."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from scipy.stats import multinomial

from mechmem.core.stats import bootstrap
from mechmem.math.comparisons import means_over_answers, paired_difference, paired_ratio, pooled_means, ratio_of_means


def ends(found):
    return [round(x, 3) for x in (found.value, found.low, found.high)]


def test_published_examples():
    # Newcombe 1998, table III: (20, 12, 2, 16). Fagerland, Lydersen, Laake 2014: (1, 1, 7, 12).
    assert ends(paired_difference(32, 22, 20, 50)) == [0.2, 0.056, 0.329]
    assert ends(paired_difference(2, 8, 1, 21)) == [-0.286, -0.507, -0.026]
    assert ends(paired_ratio(2, 8, 1, 21)) == [0.25, 0.068, 0.923]


@pytest.mark.parametrize("p", [(0.4, 0.2, 0.1, 0.3), (0.05, 0.05, 0.3, 0.6), (0.6, 0.1, 0.1, 0.2)])
def test_intervals_cover_as_often_as_they_say(p):
    n = 12
    table = multinomial(n, p)
    covered = dict.fromkeys((paired_difference, paired_ratio), 0.0)
    truth = {paired_difference: p[1] - p[2], paired_ratio: (p[0] + p[1]) / (p[0] + p[2])}
    for both, one, other in itertools.product(range(n + 1), repeat=3):
        chance = float(table.pmf([both, one, other, n - both - one - other])) if both + one + other <= n else 0
        if chance < 1e-8:
            continue
        for compare in covered:
            found = compare(both + one, both + other, both, n)
            covered[compare] += chance * (found is None or found.low - 1e-9 <= truth[compare] <= found.high + 1e-9)
    assert min(covered.values()) > 0.93, covered


def test_the_pairing_is_used_and_the_ends_are_in_range():
    paired, apart = paired_difference(60, 50, 50, 100), paired_difference(60, 50, 30, 100)
    assert paired.high - paired.low < 0.8 * (apart.high - apart.low)
    same = paired_difference(40, 40, 40, 100)
    assert same.value == 0 and same.low < 0 < same.high
    assert paired_difference(0, 0, 0, 0) is None and paired_ratio(3, 0, 0, 10) is None
    for first, second, both in itertools.product((0, 5, 10), (0, 5, 10), (0, 5, 10)):
        if max(0, first + second - 10) <= both <= min(first, second):
            found = paired_difference(first, second, both, 10)
            assert -1 <= found.low <= found.value <= found.high <= 1
            ratio = paired_ratio(first, second, both, 10)
            assert ratio is None or 0 <= ratio.low <= ratio.value <= ratio.high


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


def test_agrees_with_the_general_bootstrap():
    draw = np.random.default_rng(0)
    answer = draw.integers(30, size=400)
    values = draw.normal(size=(2, 400)) + 0.5 * answer
    for row, found in zip(values, means_over_answers(values, answer), strict=True):
        sums, counts = np.bincount(answer, row), np.bincount(answer).astype(float)
        expected = bootstrap(lambda s, m, axis: s.sum(axis) / m.sum(axis), (sums, counts), seed=1)
        assert found.value == pytest.approx(row.mean()) and found.n == 400
        width = expected.high - expected.low
        assert found.low == pytest.approx(expected.low, abs=0.1 * width)
        assert found.high == pytest.approx(expected.high, abs=0.1 * width)


def test_answers_without_examples_do_not_count_and_one_answer_has_no_interval():
    sums, counts = np.array([[0.0], [6.0], [0.0]]), np.array([0, 3, 0])
    (found,) = pooled_means(sums, counts)
    assert (found.value, found.low, found.high, found.n) == (2.0, -math.inf, math.inf, 3)


def test_a_constant_has_an_interval_of_no_width():
    (found,) = means_over_answers(np.full((1, 20), 3.0), np.arange(20) % 5)
    assert found.low == found.high == pytest.approx(3.0)
