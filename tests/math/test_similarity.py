"""CKA against its definition in numpy, against sums over distinct examples, and what leaves it as it is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math.representations import centred_gram, cka_of_grams, linear_cka


def draw(n, *widths, seed=0):
    of = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=of, dtype=torch.float64) for width in widths]


def hsic_by_hand(x, y):
    """HSIC with H K H, as it is written."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n
    return np.trace(x @ x.T @ centre @ y @ y.T @ centre) / (n - 1) ** 2


def unbiased_by_hand(x, y):
    """HSIC as an average over four distinct examples (Gretton et al. 2005; Song et al. 2012, eq. 4)."""
    k, q = x @ x.T, y @ y.T
    fours = np.array(list(itertools.permutations(range(len(x)), 4)))
    a, b, c, d = fours.T
    return np.mean(k[a, b] * q[a, b] + k[a, b] * q[c, d] - 2 * k[a, b] * q[a, c])


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("widths", [(3, 5), (20, 2)])
def test_it_is_its_definition(debiased, widths):
    x, y = draw(8, *widths)
    hsic = unbiased_by_hand if debiased else hsic_by_hand
    expected = hsic(x.numpy(), y.numpy()) / np.sqrt(hsic(x.numpy(), x.numpy()) * hsic(y.numpy(), y.numpy()))
    assert linear_cka(x, y, debiased=debiased) == pytest.approx(expected, abs=1e-12)


@given(st.integers(4, 12), st.integers(1, 9), st.integers(0, 2**16), st.sampled_from([1e-3, 0.7, 50.0]), st.booleans())
def test_rotations_shifts_and_scales_change_nothing(n, width, seed, scale, debiased):
    x, y = draw(n, width, 4, seed=seed)
    square = draw(width, width, seed=seed + 1)[0]
    moved = scale * (x @ torch.linalg.qr(square).Q) + 3.0
    assert linear_cka(x, moved, debiased=debiased) == pytest.approx(1, abs=1e-8)
    assert linear_cka(x, x, debiased=debiased) == pytest.approx(1, abs=1e-12)
    before, after = linear_cka(x, y, debiased=debiased), linear_cka(moved, y, debiased=debiased)
    assert after == pytest.approx(before, abs=1e-7) and abs(before) <= 1 + 1e-12
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(before, abs=1e-12)


def test_another_linear_map_does_change_it():
    x, y = draw(30, 5, 4)
    stretched = x * torch.tensor([10.0, 1, 1, 1, 1])
    assert abs(linear_cka(stretched, y) - linear_cka(x, y)) > 0.01


def test_unrelated_features_are_alike_only_where_it_is_biased():
    pairs = [draw(30, 300, 300, seed=seed) for seed in range(20)]
    found = {kind: [linear_cka(*pair, debiased=kind) for pair in pairs] for kind in (True, False)}
    assert abs(np.mean(found[True])) < 0.02 and np.mean(found[False]) > 0.8


@pytest.mark.parametrize("debiased", [True, False])
def test_columns_a_few_at_a_time_and_clouds_at_once_give_the_same(debiased):
    clouds = torch.stack(draw(9, 11, 11, 11))
    whole = centred_gram(clouds, debiased=debiased)
    assert torch.allclose(centred_gram(clouds, debiased=debiased, columns=2), whole, rtol=1e-12, atol=1e-12)
    alone = torch.stack([centred_gram(cloud, debiased=debiased) for cloud in clouds])
    assert torch.allclose(alone, whole, rtol=1e-12, atol=1e-12)
    assert float(whole.sum(1).abs().max()) < 1e-12


def test_single_precision_is_summed_in_double():
    x = draw(50, 2000)[0]
    assert torch.allclose(centred_gram(x.float()), centred_gram(x.float().double()), rtol=0, atol=0)


@pytest.mark.parametrize("debiased", [True, False])
def test_examples_that_are_all_alike_have_no_similarity(debiased):
    x = draw(8, 3)[0]
    alike = torch.full((8, 3), 0.1, dtype=torch.float64) / 3
    assert np.isnan(linear_cka(alike, x, debiased=debiased)) and np.isnan(linear_cka(x, alike, debiased=debiased))
    # Each pair of these is equally far apart: leaving examples' own products out leaves nothing.
    corners = torch.eye(8, dtype=torch.float64)
    assert np.isnan(linear_cka(corners, x, debiased=debiased)) == debiased


def test_every_pair_is_in_its_place():
    layers = draw(10, 2, 3, 4)
    grams = [centred_gram(layer) for layer in layers]
    found = cka_of_grams(grams, grams[:2])
    expected = [[linear_cka(a, b) for b in layers[:2]] for a in layers]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("debiased", "n"), [(True, 3), (False, 1)])
def test_too_few_examples_are_refused(debiased, n):
    with pytest.raises(ValueError, match="expected at least"):
        centred_gram(torch.zeros(n, 2), debiased=debiased)
