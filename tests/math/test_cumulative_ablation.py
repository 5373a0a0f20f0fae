"""Grouped products and the shortcut for argmax against whole products, numpy's argmax and scipy's log-sum-exp."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from mechmem.math.ablation import cumulative_ablation, outcomes


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_outcomes_equal_argmax_and_cross_entropy(seed, classes, examples, tied):
    rng = np.random.default_rng(seed)
    # Small whole numbers are full of ties.
    logits = (
        rng.integers(-1, 2, (classes, examples)).astype(float) if tied else 30 * rng.normal(size=(classes, examples))
    )
    labels = rng.integers(0, classes, examples)
    given_logits = torch.tensor(logits)
    correct, loss = outcomes(given_logits, torch.tensor(labels))
    assert (given_logits.numpy() == logits).all()
    assert (correct.numpy() == (logits.argmax(0) == labels)).all()
    wanted = logsumexp(logits, axis=0) - logits[labels, np.arange(examples)]
    np.testing.assert_allclose(loss.numpy(), wanted, rtol=1e-9, atol=1e-12)
    again, none = outcomes(given_logits, torch.tensor(labels), losses=False)
    assert none is None and torch.equal(again, correct)


def test_a_loss_far_below_the_rounding_of_the_logit_is_kept():
    logits = torch.tensor([[40.0], [0.0], [0.0]])
    _, loss = outcomes(logits, torch.tensor([0]))
    assert float(loss) == pytest.approx(2 * np.exp(-40), rel=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 5))
def test_points_equal_the_product_of_what_is_left(seed, neurons, steps):
    draw = torch.Generator().manual_seed(seed)
    change = torch.randn(neurons, 7, generator=draw, dtype=torch.float64)
    weights = torch.randn(neurons, 4, generator=draw, dtype=torch.float64)
    emptied = torch.randn(4, 7, generator=draw, dtype=torch.float64)
    orders = torch.stack([torch.randperm(neurons, generator=draw) for _ in range(2)])
    removed = torch.unique((torch.arange(steps + 1) * neurons / steps).round().long())
    labels = torch.randint(4, (2, 7), generator=draw)
    full = emptied + weights.T @ change
    correct, loss = cumulative_ablation(change, weights[orders], orders, removed, emptied, full, labels)
    for curve, order in enumerate(orders):
        for point, count in enumerate(removed):
            left = order[count:]
            logits = (emptied + weights[left].T @ change[left]).numpy()
            for row, label in enumerate(labels.numpy()):
                assert correct[curve, point, row] == (logits.argmax(0) == label).sum()
                nats = (logsumexp(logits, axis=0) - logits[label, np.arange(7)]).sum()
                assert float(loss[curve, point, row]) == pytest.approx(nats, rel=1e-9)
