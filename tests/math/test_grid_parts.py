"""Every part of a table read in blocks, against numpy on the whole of it."""

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.math import grid_parts as gp
from mechmem.math.grid_parts import energy_on_lines, grid_energy, leave_one_out_z, share_on_lines
from mechmem.models.reading.grid import logit_parts
from mechmem.tasks.grid import answer_sign, grid_rows

CASES = [("add", 2), ("add", 5), ("add", 8), ("subtract", 6), ("subtract", 9), ("multiply", 3), ("multiply", 7)]


@pytest.fixture(params=CASES, ids=str)
def case(request, monkeypatch):
    """A random table, the rows of its grid, the grid itself and the sign; blocks of one or two classes."""
    op, p = request.param
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    values = torch.randn(p * p, p, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3
    rows = grid_rows(task)
    monkeypatch.setattr(gp, "BLOCK_ELEMENTS", 2 * rows.numel())
    return values, rows, values[rows].numpy(), answer_sign(task)


def test_parts_are_means(case):
    values, rows, grid, sign = case
    n = len(rows)
    parts = gp.grid_parts(values, rows, sign)
    mean = grid.mean((0, 1))
    np.testing.assert_allclose(parts.row, grid.mean(1), atol=1e-12)
    np.testing.assert_allclose(parts.column, grid.mean(0) - mean, atol=1e-12)
    a, b = np.indices((n, n))
    by_answer = np.stack([grid[(a + sign * b) % n == s].mean(0) for s in range(n)])
    np.testing.assert_allclose(parts.rule, by_answer - mean, atol=1e-12)
    centred = gp.grid_parts(values - values.mean(1, keepdim=True), rows, sign)
    for name in ("row", "column", "rule"):
        torch.testing.assert_close(getattr(parts.centred(), name), getattr(centred, name))


@pytest.mark.parametrize("centred", [False, True])
def test_tables_come_in_blocks_of_whole_classes(case, centred):
    values, rows, grid, _ = case
    blocks = list(gp.class_tables(values.float(), rows, centred=centred))
    assert max(len(block) for block in blocks) <= 2 and blocks[0].dtype == torch.float64
    whole = values.float().double().numpy()
    whole = (whole - whole.mean(1, keepdims=True) * centred)[rows.numpy()]
    np.testing.assert_allclose(torch.cat(blocks), np.moveaxis(whole, -1, 0), atol=1e-12)


def test_free_modes_hold_all_energy_that_is_not_additive_once(case):
    values, rows, grid, _ = case
    n = len(rows)
    modes, energy = gp.free_modes(gp.grid_energy(values, rows, centred=False))
    additive = grid.mean(0, keepdims=True) + grid.mean(1, keepdims=True) - grid.mean((0, 1), keepdims=True)
    assert float(energy.sum()) == pytest.approx(float(np.square(grid - additive).sum()))
    both = {frozenset([(a, b), ((n - a) % n, (n - b) % n)]) for a, b in modes.tolist()}
    assert len(both) == len(modes) and set().union(*both) == {(a, b) for a in range(1, n) for b in range(1, n)}
    spectrum = (np.abs(np.fft.fft2(grid, axes=(0, 1))) ** 2).sum(-1) / n**2
    expected = [sum(spectrum[m] for m in {(a, b), ((n - a) % n, (n - b) % n)}) for a, b in modes.tolist()]
    np.testing.assert_allclose(energy, expected, atol=1e-10)


def test_all_free_modes_together_rebuild_what_is_not_additive(case):
    values, rows, grid, _ = case
    n = len(rows)
    modes, _ = gp.free_modes(gp.grid_energy(values, rows, centred=False))
    cells = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    rebuilt = gp.mode_waves(cells, modes, n) @ gp.mode_coefficients(values, rows, modes)
    additive = grid.mean(0, keepdims=True) + grid.mean(1, keepdims=True) - grid.mean((0, 1), keepdims=True)
    np.testing.assert_allclose(rebuilt.reshape(n, n, -1), grid - additive, atol=1e-10)


def test_the_rules_modes_rebuild_the_rule(case):
    values, rows, _, sign = case
    n = len(rows)
    modes = gp.rule_modes(n, sign)
    cells = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    rebuilt = gp.mode_waves(cells, modes, n) @ gp.mode_coefficients(values, rows, modes)
    rule = gp.grid_parts(values, rows, sign).rule[(cells[:, 0] + sign * cells[:, 1]) % n]
    torch.testing.assert_close(rebuilt, rule, atol=1e-10, rtol=0)


def test_parts_are_made_once_per_subject(planted):
    assert logit_parts(planted.subject) is logit_parts(planted.subject)


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
