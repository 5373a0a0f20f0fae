"""What scores answer, in float64 against numpy, with ties and scores that are not finite."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mechmem.math.logits import NOT_FINITE, answers_of

SCORES = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.sampled_from([-1.0, 0.0, 2.0, np.nan, np.inf, -np.inf]),
)


@given(SCORES)
def test_the_highest_answers_unless_one_is_not_finite(scores):
    expected = np.where(np.isfinite(scores).all(1), np.argmax(scores, 1), NOT_FINITE)
    np.testing.assert_array_equal(answers_of(torch.from_numpy(scores)), expected)


def test_no_example_has_no_answer():
    assert answers_of(torch.zeros(0, 3)).tolist() == []
