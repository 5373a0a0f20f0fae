"""What scores answer, in float64 against numpy, with ties and scores that are not finite."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mechmem.errors import NotFiniteError
from mechmem.math import logits as module
from mechmem.math.logits import NOT_FINITE, answers_of, check_finite, correct_of, logit_shares

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


@given(
    seed=st.integers(0, 10**6),
    examples=st.integers(1, 9),
    neurons=st.integers(1, 9),
    classes=st.integers(1, 5),
    ranks=st.integers(1, 12),
)
def test_equals_numpy(seed, examples, neurons, classes, ranks):
    draw = np.random.default_rng(seed)
    hidden, weights = draw.normal(size=(examples, neurons)), draw.normal(size=(neurons, classes))
    labels, among = draw.integers(0, classes, examples), draw.random(neurons) < 0.5
    matrix = hidden * (weights - weights.mean(1, keepdims=True))[:, labels].T
    found = logit_shares(*(torch.from_numpy(x) for x in (hidden, weights, labels)), ranks, torch.from_numpy(among))
    logits = hidden @ weights
    assert np.allclose(found.total, logits[np.arange(examples), labels] - logits.mean(1))
    assert np.allclose(found.among, matrix[:, among].sum(1))
    assert np.allclose(found.positive, matrix.clip(0).sum(1))
    assert np.allclose(found.contribution, -np.sort(-matrix, 1)[:, :ranks])
    assert np.allclose(np.take_along_axis(matrix, found.top.numpy(), 1), found.contribution)
    for row, count in zip(matrix, found.participation.tolist(), strict=True):
        positive = np.sort(row[row > 0])[::-1]
        if not len(positive) or classes == 1:
            assert count == 0
            continue
        assert positive[:count].sum() >= positive.sum() / 2 * (1 - 1e-12)
        assert positive[: count - 1].sum() < positive.sum() / 2 * (1 + 1e-12)


@pytest.mark.parametrize("elements", [1, 13])
def test_blocks_of_any_size_give_the_same(monkeypatch, draw, elements):
    arguments = (torch.randn(9, 5, generator=draw), torch.randn(5, 3, generator=draw), torch.arange(9) % 3, 2)
    whole = logit_shares(*arguments)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", elements)
    again = logit_shares(*arguments)
    assert torch.equal(whole.top, again.top) and torch.equal(whole.participation, again.participation)
    assert torch.allclose(whole.total, again.total)


def test_a_score_that_is_not_finite_is_no_answer():
    scores = torch.tensor([[0.0, 2.0], [math.nan, 1.0], [math.inf, 0.0], [0.0, -math.inf], [3.0, 1.0]])
    labels = torch.tensor([1, 0, 0, 0, 1])
    assert answers_of(scores).tolist() == [1, NOT_FINITE, NOT_FINITE, NOT_FINITE, 0]
    assert answers_of(torch.stack([scores, scores + 1])).tolist() == [answers_of(scores).tolist()] * 2
    assert answers_of(scores[:0]).shape == (0,) and answers_of(scores[None, :0]).shape == (1, 0)
    found = correct_of(scores, labels)
    assert found[[0, 4]].tolist() == [1, 0] and found[1:4].isnan().all()
    check_finite(scores[[0, 4]], "the scores")
    with pytest.raises(NotFiniteError, match=r"the scores are NaN or infinite in 3 of 5 rows \(the first is row 1\)"):
        check_finite(scores, "the scores")
