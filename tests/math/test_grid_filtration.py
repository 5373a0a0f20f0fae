import numpy as np
import pytest
import torch

from mechmem.math.grid_filtration import block_coefficients, frequency_energy, key_waves

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


def cells(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n))


@pytest.mark.parametrize("n", ORDERS)
def test_energies_are_those_of_numpy_s_modes(n, draw):
    values = torch.randn(n, n, 5, generator=draw, dtype=torch.float64)
    energy = frequency_energy(block_coefficients(values, 0))
    for k in range(1, n // 2 + 1):
        expected = (masked(values.numpy(), modes_of(k, n)) ** 2).sum((0, 1))
        np.testing.assert_allclose(energy[k - 1], expected, atol=1e-10)


@pytest.mark.parametrize("n", ORDERS)
def test_the_kept_part_is_a_mask_on_numpy_s_spectrum(n, draw):
    values = torch.randn(n, n, 4, generator=draw, dtype=torch.float64)
    freq = torch.randint(1, n // 2 + 1, (4,), generator=draw)
    waves = key_waves(block_coefficients(values, 0), freq, n)
    found = waves.at(cells(n)).reshape(n, n, 4)
    for neuron, k in enumerate(freq.tolist()):
        one = values[..., neuron : neuron + 1].numpy()
        np.testing.assert_allclose(found[..., [neuron]], masked(one, modes_of(k, n) | {(0, 0)}), atol=1e-12)
    np.testing.assert_allclose(waves.constant, values.mean((0, 1)), atol=1e-14)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_blocks_of_rows_add_up(rows, draw):
    values = torch.randn(7, 7, 3, generator=draw)
    parts = sum(block_coefficients(values[first : first + rows], first) for first in range(0, 7, rows))
    torch.testing.assert_close(parts, block_coefficients(values, 0))


@pytest.mark.parametrize("n", [5, 8])
def test_every_product_at_one_frequency_is_found_and_kept_whole(n):
    place = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    for k in range(1, n // 2 + 1):
        a, b = torch.cos(k * place)[:, None], torch.cos(k * place)[None]
        values = torch.stack([1 + 0 * a + b, a + 0 * b, a * b, 3 - a * b + 0.5 * a], 2)
        found = block_coefficients(values, 0)
        assert (frequency_energy(found).argmax(0) + 1 == k).all()
        kept = key_waves(found, torch.full((4,), k), n).at(cells(n))
        torch.testing.assert_close(kept, values.reshape(n * n, 4))


def test_products_of_two_frequencies_belong_to_none():
    place = 2 * torch.pi * torch.arange(7, dtype=torch.float64) / 7
    values = (torch.cos(place)[:, None] * torch.cos(2 * place)[None])[..., None]
    assert frequency_energy(block_coefficients(values, 0)).max() < 1e-28
