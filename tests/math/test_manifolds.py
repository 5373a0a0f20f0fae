"""Dimension and radius of clouds that are planted, and against numpy."""

import itertools

import numpy as np
import pytest
import torch

from mechmem.math.representations import (
    cloud_geometry,
    corrected_participation_ratio,
    participation_ratio,
    radius_of_chance,
)


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
