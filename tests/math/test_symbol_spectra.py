"""Spectra of matrices against sums written out, and their null against matrices that are really drawn."""

import numpy as np
import pytest
import torch

from mechmem.math.symbol_spectra import excess, line_gini, random_spectra, wave_energy


@pytest.mark.parametrize("n", [7, 8])
def test_wave_energy_is_the_squared_projection_on_each_cosine_and_sine(n):
    table = np.random.default_rng(0).normal(size=(n, 3))
    found = wave_energy(torch.from_numpy(table)).numpy()
    x = 2 * np.pi * np.arange(n) / n
    for k in range(1, n // 2 + 1):
        for place, wave in enumerate((np.cos(k * x), np.sin(k * x))):
            length = np.linalg.norm(wave)
            expected = 0 if length < 1e-9 else np.square(wave @ table / length).sum()
            assert found[k - 1, place] == pytest.approx(expected)


def test_excess_is_energy_per_coefficient_over_the_mean_of_all():
    found = excess(torch.tensor([4.0, 2.0, 0.0]), torch.tensor([2, 1, 1]))
    # Four coefficients hold 6, so 1.5 each; the first frequency has 2 in each of its two.
    assert found.tolist() == pytest.approx([2 / 1.5, 2 / 1.5, 0])
    assert excess(torch.zeros(3), torch.tensor([2, 2, 2])).tolist() == [0, 0, 0]


def test_gini_is_over_norms_not_energies():
    norms = np.array([1.0, 2.0, 5.0])
    pairs = np.abs(norms[:, None] - norms).sum() / (2 * 9 * norms.mean())
    count = torch.tensor([2, 2, 1])
    assert float(line_gini(torch.from_numpy(norms**2) * count, count)) == pytest.approx(pairs)


@pytest.mark.parametrize(("p", "width", "inner"), [(13, 6, None), (12, 40, None), (13, 48, 12), (13, 10, 40)])
def test_the_null_is_that_of_drawn_matrices(p, width, inner):
    """Every draw a matrix of Gaussian numbers, or a product of two, put through the transform."""
    draw, repeats = np.random.default_rng(1), 2000
    multiplicity = [2] * (p // 2) if p % 2 else [2] * (p // 2 - 1) + [1]
    columns = width if inner is None else inner * width / (inner + width + 1)
    null = random_spectra(tuple(multiplicity), (1,) * (p - 1), columns, 0.05, 0)
    tables = draw.normal(size=(repeats, p, width if inner is None else inner))
    if inner is not None:
        tables = tables @ draw.normal(size=(repeats, inner, width))
    modes = np.fft.rfft(tables, axis=1)[:, 1:]
    # The last sine of an even order is no wave; the last cosine is twice as long as the others.
    waves = np.stack([modes.real, modes.imag], 2)
    energy = np.square(waves).sum(3) * np.where(np.array(multiplicity) == 1, 0.5, 1)[:, None]
    per_frequency = energy.sum(2) / multiplicity
    largest = (per_frequency / (energy.sum((1, 2)) / (p - 1))[:, None]).max(1)
    norms = np.sort(np.sqrt(energy.reshape(repeats, -1)[:, : p - 1]), 1)
    rank = 2 * np.arange(1, p) - p
    ginis = (norms * rank).sum(1) / ((p - 1) * norms.sum(1))
    rate = np.mean(largest > null.threshold)
    # Of a product the variance alone is matched, not the tail.
    assert 0.035 < rate < (0.065 if inner is None else 0.085)
    assert null.gini[0] == pytest.approx(ginis.mean(), rel=0.02 if inner is None else 0.06)
    inside = np.mean((ginis > null.gini[1]) & (ginis < null.gini[2]))
    assert inside > 0.92
