"""Explained variance against least squares on the nine functions, written out in numpy."""

import itertools

import numpy as np
import pytest
import torch

from mechmem.math.grid_waves import GridWaves


def cells_of(n):
    return np.array(list(itertools.product(range(n), range(n))))


def explained(n, values, order=None, size=None):
    cells, sums = cells_of(n), GridWaves(n, values.shape[1])
    order = np.arange(n * n) if order is None else order
    for rows in np.array_split(order, 1 if size is None else -(-len(order) // size)):
        sums.add(torch.from_numpy(cells[rows]), torch.from_numpy(values[rows]))
    return sums


def by_least_squares(n, values, k):
    """1 − (residual variance) / (variance), fitting {1, cos ka, sin ka} × {1, cos kb, sin kb}."""
    x = 2 * np.pi * k * cells_of(n) / n
    a, b = (np.stack([np.ones(n * n), np.cos(z), np.sin(z)], 1) for z in x.T)
    design = (a[:, :, None] * b[:, None, :]).reshape(n * n, 9)
    fit = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return 1 - (values - fit).var(0) / values.var(0)


@pytest.mark.parametrize("n", [5, 6, 9, 12, 13])
def test_explained_variance_is_that_of_a_least_squares_fit(n):
    draw = np.random.default_rng(n)
    u, v = draw.normal(size=(2, n, 6))
    cells = cells_of(n)
    values = np.maximum(u[cells[:, 0]] + v[cells[:, 1]] + draw.normal(size=(n * n, 6)), 0) + 3
    sums = explained(n, values, draw.permutation(n * n), 7)
    found = sums.explained().numpy()
    assert found.shape == (n // 2, 6)
    for k in range(1, n // 2 + 1):
        np.testing.assert_allclose(found[k - 1], by_least_squares(n, values, k), atol=1e-12)
    np.testing.assert_allclose(sums.variance(), values.var(0))


def test_known_functions_have_known_shares():
    n = 13
    a, b = (2 * np.pi * x / n for x in cells_of(n).T)
    values = np.stack(
        [
            np.cos(3 * (a + b)),  # all of it frequency 3
            np.cos(2 * a) + 2 * np.cos(5 * b),  # variances ½ and 2
            np.cos(4 * a) * np.cos(6 * b),  # waves of two frequencies, multiplied: none's
            np.sin(6 * a) * np.cos(6 * b) + 0.5 * np.sin(a - b),  # variances ¼ and ⅛
            np.full(n * n, 7.3),  # a constant
            np.abs(np.cos(2 * (a + b))),
        ],
        1,
    )
    found = explained(n, values).explained().numpy()
    assert found[:, 0] == pytest.approx([0, 0, 1, 0, 0, 0], abs=1e-12)
    assert found[:, 1] == pytest.approx([0, 0.2, 0, 0, 0.8, 0], abs=1e-12)
    assert found[:, 2] == pytest.approx([0] * 6, abs=1e-12)
    assert found[:, 3] == pytest.approx([1 / 3, 0, 0, 0, 0, 2 / 3], abs=1e-12)
    assert not found[:, 4].any()
    # |cos 2x| over the answer s: its spectrum is that of 13 numbers.
    over = np.abs(np.cos(2 * 2 * np.pi * np.arange(n) / n))
    power = np.abs(np.fft.rfft(over - over.mean()))[1:] ** 2
    assert found[:, 5] == pytest.approx(power / power.sum(), abs=1e-12)
    assert (found.sum(0) <= 1 + 1e-12).all()


def test_the_last_frequency_of_an_even_order_can_win():
    n = 8
    a, b = cells_of(n).T
    found = explained(n, ((-1.0) ** (a + b))[:, None]).explained()[:, 0]
    assert found.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-12)
