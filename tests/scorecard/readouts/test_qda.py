"""Quadratic discriminants do not depend on the units of a layer."""

import numpy as np

from mechmem.scorecard.readouts.qda import QDA


def test_a_layer_of_small_values_is_read_like_a_large_one():
    labels = np.arange(300) % 3
    large = np.random.default_rng(0).normal(size=(300, 20)) + labels[:, None]
    large[:, 3] = 0
    answers = [QDA().estimator(300).fit(scale * large, labels).predict(scale * large) for scale in (1, 1e-4)]
    np.testing.assert_array_equal(*answers)
    assert (answers[0] == labels).mean() > 0.9
