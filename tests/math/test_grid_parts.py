"""Every part of a table read in blocks, against numpy on the whole of it."""

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.math import grid_parts as gp
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
