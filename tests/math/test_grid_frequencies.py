"""Against masks on numpy's spectra, and least squares on the nine functions written out."""

import numpy as np
import pytest
import torch

from mechmem.math.filtration import GridFrequencies

ORDERS = [2, 3, 4, 7, 12]


def modes_of(k, n):
    """The modes (k, 0), (0, k), (k, k), (k, −k) and their conjugates."""
    one = {(k, 0), (0, k), (k, k), (k, n - k)}
    return {(i % n, j % n) for i, j in one} | {(-i % n, -j % n) for i, j in one}


def masked(values, modes):
    spectrum = np.fft.fft2(values, axes=(0, 1))
    mask = np.zeros((len(values), len(values), 1))
    for mode in modes:
        mask[mode] = 1
    kept = np.fft.ifft2(spectrum * mask, axes=(0, 1))
    np.testing.assert_allclose(kept.imag, 0, atol=1e-12)
    return kept.real


def taken_in(values, size=None):
    """Feed a grid (a, b, neuron) to the sums, in blocks of rows, the last block first."""
    n, _, neurons = values.shape
    sums = GridFrequencies(n, neurons)
    for first in reversed(range(0, n, size or n)):
        sums.add(values[first : first + (size or n)], first)
    return sums


def cells(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n))


@pytest.mark.parametrize("n", ORDERS)
def test_energies_are_those_of_numpy_s_modes(n, draw):
    values = torch.randn(n, n, 5, generator=draw, dtype=torch.float64)
    energy = taken_in(values).energy()
    for k in range(1, n // 2 + 1):
        expected = (masked(values.numpy(), modes_of(k, n)) ** 2).sum((0, 1))
        np.testing.assert_allclose(energy[k - 1], expected, atol=1e-10)


@pytest.mark.parametrize("n", ORDERS)
def test_the_kept_part_is_a_mask_on_numpy_s_spectrum(n, draw):
    values = torch.randn(n, n, 4, generator=draw, dtype=torch.float64)
    freq = torch.randint(1, n // 2 + 1, (4,), generator=draw)
    waves = taken_in(values).at(freq)
    found = waves.at(cells(n)).reshape(n, n, 4)
    for neuron, k in enumerate(freq.tolist()):
        one = values[..., neuron : neuron + 1].numpy()
        np.testing.assert_allclose(found[..., [neuron]], masked(one, modes_of(k, n) | {(0, 0)}), atol=1e-12)
    np.testing.assert_allclose(waves.constant, values.mean((0, 1)), atol=1e-14)


@pytest.mark.parametrize("n", [5, 8])
def test_every_product_at_one_frequency_is_found_and_kept_whole(n):
    place = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    for k in range(1, n // 2 + 1):
        a, b = torch.cos(k * place)[:, None], torch.cos(k * place)[None]
        values = torch.stack([1 + 0 * a + b, a + 0 * b, a * b, 3 - a * b + 0.5 * a], 2)
        found = taken_in(values)
        assert (found.energy().argmax(0) + 1 == k).all()
        kept = found.at(torch.full((4,), k)).at(cells(n))
        torch.testing.assert_close(kept, values.reshape(n * n, 4))


def test_products_of_two_frequencies_belong_to_none():
    place = 2 * torch.pi * torch.arange(7, dtype=torch.float64) / 7
    values = (torch.cos(place)[:, None] * torch.cos(2 * place)[None])[..., None]
    assert taken_in(values).energy().max() < 1e-28


def by_least_squares(n, values, k):
    """1 − (residual variance) / (variance), fitting {1, cos ka, sin ka} × {1, cos kb, sin kb}."""
    x = 2 * np.pi * k * cells(n).numpy() / n
    a, b = (np.stack([np.ones(n * n), np.cos(z), np.sin(z)], 1) for z in x.T)
    design = (a[:, :, None] * b[:, None, :]).reshape(n * n, 9)
    fit = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return 1 - (values - fit).var(0) / values.var(0)


@pytest.mark.parametrize("n", [5, 6, 9, 12, 13])
def test_explained_variance_is_that_of_a_least_squares_fit(n):
    draw = np.random.default_rng(n)
    u, v = draw.normal(size=(2, n, 6))
    values = np.maximum(u[:, None] + v + draw.normal(size=(n, n, 6)), 0) + 3
    sums = taken_in(torch.from_numpy(values), 2)
    found = sums.explained().numpy()
    assert found.shape == (n // 2, 6)
    for k in range(1, n // 2 + 1):
        np.testing.assert_allclose(found[k - 1], by_least_squares(n, values.reshape(n * n, 6), k), atol=1e-12)
    np.testing.assert_allclose(sums.variance(), values.var((0, 1)))


def test_known_functions_have_known_shares():
    n = 13
    a, b = (2 * torch.pi * x.reshape(n, n).double() / n for x in cells(n).T)
    values = torch.stack(
        [
            torch.cos(3 * (a + b)),  # all of it frequency 3
            torch.cos(2 * a) + 2 * torch.cos(5 * b),  # variances ½ and 2
            torch.cos(4 * a) * torch.cos(6 * b),  # waves of two frequencies, multiplied: none's
            torch.sin(6 * a) * torch.cos(6 * b) + 0.5 * torch.sin(a - b),  # variances ¼ and ⅛
            torch.full_like(a, 7.3),  # a constant
            torch.abs(torch.cos(2 * (a + b))),
        ],
        2,
    )
    found = taken_in(values).explained().numpy()
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
    a, b = cells(n).T
    values = ((-1.0) ** (a + b)).reshape(n, n, 1)
    found = taken_in(values).explained()[:, 0]
    assert found.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-12)
