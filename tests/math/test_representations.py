"""CKA against its definition in numpy, against sums over distinct examples, and what leaves it as it is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cka import linear_cka

from mechmem.math.representations import (
    ViewCosines,
    centred_gram,
    cka_of_grams,
    cloud_geometry,
    corrected_participation_ratio,
    participation_ratio,
    radius_of_chance,
)


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


def clouds(count, n, spectrum, seed=0):
    of = torch.Generator().manual_seed(seed)
    scale = torch.as_tensor(spectrum, dtype=torch.float64).sqrt()
    return torch.randn(count, n, len(scale), generator=of, dtype=torch.float64) * scale


@pytest.mark.parametrize(("n", "d"), [(6, 20), (20, 6), (5, 5)])
def test_it_is_the_participation_ratio_of_numpys_eigenvalues(n, d):
    points = clouds(3, n, range(1, d + 1))
    for found, cloud in zip(participation_ratio(points), points.numpy(), strict=True):
        values = np.linalg.eigvalsh(np.cov(cloud.T))
        assert float(found) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-10)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_a_cross_has_as_many_dimensions_as_arms(dimension):
    arms = torch.cat([torch.eye(dimension), -torch.eye(dimension), torch.zeros(2, dimension)]).double()
    rotated = torch.linalg.qr(clouds(1, 9, [1] * 9, seed=dimension)[0]).Q[:dimension]
    points = (arms @ rotated + 7)[None]
    assert float(participation_ratio(points)) == pytest.approx(dimension)


def test_the_correction_is_the_average_over_four_distinct_points():
    (points,) = clouds(1, 6, [3, 2, 1])
    x = points.numpy()
    a, b, c, d = np.array(list(itertools.permutations(range(6), 4))).T
    half = ((x[a] - x[b]) ** 2).sum(1) / 2 * ((x[c] - x[d]) ** 2).sum(1) / 2
    squares = ((x[a] - x[b]) * (x[c] - x[d])).sum(1) ** 2 / 4
    assert float(corrected_participation_ratio(points[None])) == pytest.approx(half.mean() / squares.mean(), rel=1e-9)


@pytest.mark.parametrize("n", [8, 25])
def test_the_correction_takes_the_number_of_points_out(n):
    spectrum = [1.0] * 10
    many = clouds(400, n, spectrum)
    corrected = 1 / (1 / corrected_participation_ratio(many)).mean()
    assert float(corrected) == pytest.approx(10, rel=0.05)
    assert float(participation_ratio(many).mean()) < 8


def test_points_that_coincide_have_no_dimension():
    same = torch.full((2, 6, 3), 0.1, dtype=torch.float64)
    same[1, 0, 0] = 4.0
    assert torch.isnan(participation_ratio(same)[0]) and float(participation_ratio(same)[1]) == pytest.approx(1)
    assert torch.isnan(corrected_participation_ratio(same)).all()


def test_the_radius_is_the_spread_over_the_distance(monkeypatch):
    points = clouds(4, 7, [1, 2, 3], seed=5) + torch.arange(4)[:, None, None] ** 2
    features = torch.cat([torch.zeros(2, 3, dtype=torch.float64), points.flatten(0, 1)])
    members = torch.arange(28).view(4, 7) + 2
    found = cloud_geometry(features, members)
    centres = points.mean(1).numpy()
    spread = np.array([np.trace(np.cov(cloud.numpy().T)) for cloud in points])
    expected = np.sqrt(spread) / np.linalg.norm(centres - centres.mean(0), axis=1)
    np.testing.assert_allclose(found[2].numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(found[0].numpy(), participation_ratio(points).numpy(), rtol=1e-10)
    np.testing.assert_allclose(found[1].numpy(), corrected_participation_ratio(points).numpy(), rtol=1e-10)
    monkeypatch.setattr("mechmem.math.representations._AT_ONCE", 1)
    assert torch.allclose(cloud_geometry(features, members), found, rtol=1e-12)


def test_clouds_around_one_centre_have_the_radius_of_chance():
    n, count = 20, 10
    radii = [
        cloud_geometry(clouds(count, n, [1] * 20, seed=s).flatten(0, 1), torch.arange(n * count).view(count, n))[2]
        for s in range(20)
    ]
    assert float((torch.stack(radii) ** -2).mean() ** -0.5) == pytest.approx(radius_of_chance(n, count), rel=0.05)
    assert np.isnan(radius_of_chance(n, 1))
    assert torch.isnan(cloud_geometry(clouds(1, 5, [1, 1])[0], torch.arange(5)[None])[2]).all()


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(2, 6), st.integers(1, 5), st.integers(0, 99), st.integers(1, 6))
def test_every_pair_counts_once(views, examples, features, seed, block):
    held = np.random.default_rng(seed).normal(size=(views, examples, features)) + 1
    held[0, 0] = 0
    unit = np.divide(held, np.linalg.norm(held, axis=2, keepdims=True), where=held.any(2, keepdims=True), out=held * 0)
    same = [
        np.mean([a @ b for v, a in enumerate(own) for w, b in enumerate(own) if v != w]) for own in unit.swapaxes(0, 1)
    ]
    pairs = [
        unit[v, i] @ unit[w, j]
        for i in range(examples)
        for j in range(examples)
        for v in range(views)
        for w in range(views)
        if i != j
    ]
    found = ViewCosines()
    for part in torch.from_numpy(held).split(block, dim=1):
        found.add(part)
    np.testing.assert_allclose(found.same, same, atol=1e-12)
    assert found.different == pytest.approx(np.mean(pairs), abs=1e-12)


def test_another_number_of_views_is_refused():
    found = ViewCosines()
    found.add(torch.ones(3, 2, 2))
    for views in (1, 2):
        with pytest.raises(ValueError, match="same number of views"):
            found.add(torch.ones(views, 2, 2))
