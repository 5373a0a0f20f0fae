import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math import additive
from mechmem.math.additive import additive_part, additive_residual, centre_classes, correct_logits, cosine, irrelevance


def design(pairs, symbols):
    matrix = np.zeros((len(pairs), 2 * symbols))
    rows = np.arange(len(pairs))
    matrix[rows, pairs[:, 0]] = 1
    matrix[rows, symbols + pairs[:, 1]] = 1
    return matrix


def by_lstsq(values, pairs, symbols):
    matrix = design(pairs, symbols)
    return matrix @ np.linalg.lstsq(matrix, values, rcond=None)[0]


def grid(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n))


@given(st.integers(2, 9), st.integers(0, 10_000), st.floats(0.05, 1.0), st.integers(1, 4))
def test_equals_lstsq_with_missing_cells(symbols, seed, share, classes):
    rng = np.random.default_rng(seed)
    pairs = grid(symbols)
    kept = rng.random(len(pairs)) < share
    kept[0] = True
    pairs = pairs[torch.from_numpy(kept)]
    values = rng.normal(size=(len(pairs), classes)) * 5
    found = additive_part(torch.from_numpy(values), pairs, symbols).numpy()
    np.testing.assert_allclose(found, by_lstsq(values, pairs.numpy(), symbols), atol=1e-9)
    np.testing.assert_allclose(design(pairs.numpy(), symbols).T @ (values - found), 0, atol=1e-9)


def test_disconnected_designs(draw):
    # Two blocks that share neither rows nor columns, and one cell alone.
    pairs = torch.cat([grid(3), grid(3) + 3, torch.tensor([[6, 6]])])
    values = torch.randn(len(pairs), 2, generator=draw, dtype=torch.float64)
    found = additive_part(values, pairs, 8).numpy()
    np.testing.assert_allclose(found, by_lstsq(values.numpy(), pairs.numpy(), 8), atol=1e-10)
    np.testing.assert_allclose(found[-1], values[-1], atol=1e-10)


def test_cells_may_repeat(draw):
    pairs = grid(4)[torch.randint(0, 16, (40,), generator=draw)]
    values = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    expected = by_lstsq(values.numpy(), pairs.numpy(), 4)
    np.testing.assert_allclose(additive_part(values, pairs, 4).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("n", [2, 3, 8, 31])
def test_additive_tables_are_their_own_additive_part(n, draw):
    pairs = grid(n)
    rows, columns = torch.randn(2, n, 5, generator=draw, dtype=torch.float64)
    table = rows[pairs[:, 0]] + columns[pairs[:, 1]]
    torch.testing.assert_close(additive_part(table, pairs, n), table, rtol=0, atol=1e-9)


def test_on_the_whole_grid_it_is_the_two_way_means(draw):
    values = torch.randn(49, 3, generator=draw)
    table = values.double().reshape(7, 7, 3)
    expected = table.mean(0, keepdim=True) + table.mean(1, keepdim=True) - table.mean((0, 1), keepdim=True)
    found = additive_part(values, grid(7), 7)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.reshape(7, 7, 3), expected)


def test_centre_classes(draw):
    values = torch.randn(6, 4, generator=draw)
    found = centre_classes(values)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), values.double().numpy() - values.double().numpy().mean(1, keepdims=True))


@given(st.integers(2, 7), st.integers(0, 10_000))
def test_residual_equals_the_difference_and_reads_in_blocks(symbols, seed):
    draw = torch.Generator().manual_seed(seed)
    pairs = grid(symbols)[torch.rand(symbols**2, generator=draw) < 0.7]
    if not len(pairs):
        return
    values = torch.randn(len(pairs), 3, generator=draw)
    centred = centre_classes(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(additive, "ROWS", 3)
        found = additive.additive_residual(values, pairs, symbols)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, centred - additive_part(centred, pairs, symbols), atol=1e-10, rtol=0)


def test_effects_are_those_of_rows_then_of_columns(draw):
    pairs = grid(4)
    values = torch.randn(16, 3, generator=draw, dtype=torch.float64)
    effects = additive.additive_effects(values, pairs, 4)
    assert effects.shape == (8, 3)
    torch.testing.assert_close(effects[pairs[:, 0]] + effects[4 + pairs[:, 1]], additive_part(values, pairs, 4))


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


@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 0.9))
def test_missing_values_are_left_out_of_the_fit(seed, share):
    """The residual is that of least squares on all other values, with one constant per cell."""
    draw = np.random.default_rng(seed)
    n, classes, cells = 4, 3, 13
    pairs = np.array([(a, b) for a in range(n) for b in range(n)])[draw.permutation(n * n)[:cells]]
    values = draw.normal(size=(cells, classes))
    missing = np.where(draw.random(cells) < share, draw.integers(classes, size=cells), -1)
    read = [(i, c) for i in range(cells) for c in range(classes) if c != missing[i]]
    design = np.zeros((len(read), cells + 2 * n * classes))
    for line, (i, c) in enumerate(read):
        a, b = pairs[i]
        design[line, [i, cells + a * classes + c, cells + (n + b) * classes + c]] = 1
    wanted = np.array([values[i, c] for i, c in read])
    expected = np.zeros((cells, classes))
    expected[tuple(np.transpose(read))] = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    found = additive_residual(torch.from_numpy(values), torch.from_numpy(pairs), n, torch.from_numpy(missing))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_residual(dtype, draw):
    """Of a sum of row and column effects nothing is left, nor of a cell that is alone in its row."""
    n, classes = 11, 7
    pairs = grid(n)
    rows, columns = (20 * torch.randn(n, classes, generator=draw).to(dtype) for _ in range(2))
    summed = rows[pairs[:, 0]] + columns[pairs[:, 1]]
    assert not additive_residual(summed, pairs, n).any()
    alone = pairs[pairs[:, 0] == 3 * pairs[:, 1] % n]
    assert not additive_residual(torch.randn(n, classes, generator=draw).to(dtype), alone, n).any()
    spoilt = summed.clone()
    spoilt[5, 2] += 0.01
    assert additive_residual(spoilt, pairs, n).any(1).all()


def test_a_class_of_huge_logits_does_not_hide_the_others(draw):
    values = torch.randn(25, 4, generator=draw)
    values[:, 3] = -1e9
    assert additive_residual(values, grid(5), 5).any(1).all()
