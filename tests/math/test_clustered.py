import math

import numpy as np
import pytest

from mechmem.core.stats import bootstrap
from mechmem.math.comparisons import means_over_answers, pooled_means


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
