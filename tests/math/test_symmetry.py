import numpy as np
import pytest
import torch

from mechmem.math.additive import correct_logits, cosine, irrelevance


@pytest.mark.parametrize("n", [2, 5, 6])
@pytest.mark.parametrize("sign", [1, -1])
def test_logits_are_sorted_by_distance(n, sign, draw):
    values = torch.randn(n * n + 3, n, generator=draw)
    rows = torch.randperm(n * n + 3, generator=draw)[: n * n].reshape(n, n)
    classes = torch.randperm(n, generator=draw)
    found = correct_logits(values, rows, sign, classes)
    for a in range(n):
        for b in range(n):
            assert found[(a - sign * b) % n, a] == values[rows[a, b], classes[(a + sign * b) % n]]


def test_irrelevance_is_the_published_formula(draw):
    """numpy's own standard deviations of a matrix whose columns are distances, as the paper's code has it."""
    logits = torch.randn(9, 9, generator=draw, dtype=torch.float64).numpy() + np.arange(9)
    expected = np.mean(np.std(logits, axis=0)) / np.std(logits.flatten())
    assert irrelevance(logits.std(0), logits.mean(0)) == pytest.approx(expected, rel=1e-12)
    stacked = irrelevance(np.stack([logits.std(0)] * 2), np.stack([logits.mean(0)] * 2))
    np.testing.assert_allclose(stacked, expected)
    assert irrelevance(np.zeros(4), np.zeros(4)) == 0


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_cosine(scale, draw):
    left, right = scale * torch.randn(2, 6, 4, generator=draw)
    expected = [
        np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)
        for x, y in zip(left.double().numpy(), right.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(cosine(left, right), expected, rtol=1e-6)
    assert cosine(torch.zeros(1, 3), torch.ones(1, 3)).isnan().all()
