"""Shares on lines, against loops over every line."""

import numpy as np
import pytest
import torch

from mechmem.math.grid_parts import energy_on_lines, grid_energy, leave_one_out_z, share_on_lines

SIZES = [2, 3, 4, 5, 6, 9, 11]


def random_grid(n, classes=3, seed=0):
    return np.random.default_rng(seed).normal(size=(classes, n, n))


def by_loops(table, present):
    """Share explained by means over the cells of each line, one line after the other."""
    n = len(present)
    shares = np.zeros(n)
    for j in range(n):
        for c in range(n):
            cells = [(a, b) for a in range(n) for b in range(n) if (a + j * b) % n == c and present[a, b]]
            if cells:
                mean = np.mean([table[:, a, b] for a, b in cells], 0)
                shares[j] += len(cells) * np.square(mean).sum()
    return shares / np.square(table).sum()


@pytest.mark.parametrize("n", SIZES)
def test_shares_equal_loops_where_cells_are_missing(n):
    present = np.random.default_rng(1).random((n, n)) < 0.5
    present[0, 1] = True
    table = random_grid(n) * present
    blocks = (torch.from_numpy(table[i : i + 1]) for i in range(3))
    np.testing.assert_allclose(share_on_lines(blocks, torch.from_numpy(present)), by_loops(table, present), atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_on_the_whole_grid_both_ways_agree(n):
    table = random_grid(n)
    table -= table.mean(1, keepdims=True)
    table -= table.mean(2, keepdims=True)
    values = torch.from_numpy(np.moveaxis(table, 0, -1).reshape(n * n, 3).copy())
    energy = grid_energy(values, torch.arange(n * n).reshape(n, n), centred=False)
    whole = torch.ones(n, n, dtype=torch.bool)
    found = energy_on_lines(energy)
    np.testing.assert_allclose(found, share_on_lines([torch.from_numpy(table)], whole), atol=1e-12)
    np.testing.assert_allclose(found, by_loops(table, whole.numpy()), atol=1e-12)
    if n in (2, 3, 5, 11):
        assert float(found.sum()) == pytest.approx(1)


@pytest.mark.parametrize("slope", range(1, 7))
def test_a_function_of_one_slope_is_all_on_its_lines(slope):
    a, b = np.indices((7, 7))
    values = np.random.default_rng(2).normal(size=7)
    table = (values - values.mean())[(a + slope * b) % 7][None]
    shares = share_on_lines([torch.from_numpy(table)], torch.ones(7, 7, dtype=torch.bool))
    np.testing.assert_allclose(shares, np.arange(7) == slope, atol=1e-12)


def test_nothing_has_no_share():
    assert not share_on_lines([torch.zeros(2, 5, 5, dtype=torch.float64)], torch.ones(5, 5, dtype=torch.bool)).any()
    assert not energy_on_lines(torch.zeros(5, 3, dtype=torch.float64)).any()


def test_z_leaves_the_value_itself_out():
    values = np.array([5.0, 1.0, 2.0, 4.0])
    for i, z in enumerate(leave_one_out_z(values)):
        others = np.delete(values, i)
        assert z == pytest.approx((values[i] - others.mean()) / others.std(ddof=1))
    assert np.isnan(leave_one_out_z(np.array([1.0, 2.0]))).all()
    assert np.isnan(leave_one_out_z(np.array([9.0, 1.0, 1.0, 1.0]))[0])
