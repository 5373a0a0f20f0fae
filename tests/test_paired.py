"""Paired comparisons: worked examples from the literature, and coverage counted out."""

import itertools

import pytest
from scipy.stats import multinomial

from mechmem.math.comparisons import paired_difference, paired_ratio


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
