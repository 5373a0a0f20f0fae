"""Against masks on numpy's spectra, and least squares on the nine functions written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math.filtration import (
    GridFrequencies,
    frequency_part,
    frequency_power,
    key_frequency,
    strongest_frequencies,
)
from mechmem.tasks.groups import CyclicGroup

GROUPS = [CyclicGroup(p) for p in (2, 3, 4, 5, 9, 12, 16)] + [CyclicGroup(p, True) for p in (3, 5, 7, 13)]


def weights(group, width=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2, group.p, width, generator=draw, dtype=torch.float64)
    return embedding, torch.randn(width, group.p, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_frequency_power_is_the_mean_share_of_the_three_vectors(group):
    (u, v), readout = embedding, w = weights(group)
    embedding[0] *= 10  # a long vector has no more say than a short one
    n = len(group.elements)
    shares = []
    for x in (u, v, readout.T):
        energy = np.abs(np.fft.rfft(x.numpy()[group.elements.numpy()], axis=0)[1:]) ** 2
        if n % 2 == 0:
            # A one-sided spectrum holds half of every pair, and the whole of the Nyquist frequency.
            energy[-1] /= 2
        shares.append(energy / energy.sum(0))
    found = frequency_power(group, embedding, w)
    np.testing.assert_allclose(found.numpy(), np.mean(shares, 0), atol=1e-12)
    # Per coefficient, of which the Nyquist frequency of an even order has one and every other two.
    each = np.mean(shares, 0) / np.where(2 * np.arange(1, n // 2 + 1) == n, 1, 2)[:, None]
    assert key_frequency(group, found).tolist() == (each.argmax(0) + 1).tolist()


def test_a_neuron_without_any_energy_has_no_share():
    group = CyclicGroup(7)
    share = frequency_power(group, torch.zeros(2, 7, 3), torch.zeros(3, 7))
    assert (share == 0).all()
    constant = frequency_power(group, torch.full((2, 7, 3), 0.1), torch.full((3, 7), 0.3))
    assert (constant == 0).all()


@given(st.sampled_from(GROUPS), st.integers(0, 1000))
def test_the_two_parts_add_up_and_share_nothing(group, seed):
    vectors = weights(group, seed=seed)[0][0]
    draw = torch.Generator().manual_seed(seed)
    freq = torch.randint(1, group.n_frequencies + 1, (vectors.shape[1],), generator=draw)
    kept, rest = (frequency_part(group, vectors, freq, part) for part in ("G", "R"))
    inside = group.elements
    torch.testing.assert_close(kept[inside] + rest[inside], vectors[inside])
    torch.testing.assert_close((kept[inside] * rest[inside]).sum(0), torch.zeros(vectors.shape[1]).double())
    torch.testing.assert_close(kept[inside].sum(0), torch.zeros(vectors.shape[1]).double())
    torch.testing.assert_close(rest[inside].mean(0), vectors[inside].mean(0))
    for part in (kept, rest):
        assert torch.equal(part[group.outside], vectors[group.outside])
    assert (group.power(rest).gather(0, freq[None] - 1) < 1e-20).all()


@pytest.mark.parametrize("p", [2, 3, 8, 13])
@pytest.mark.parametrize("count", [1, 2, 3, 99])
def test_they_are_numpy_s(p, count, draw):
    vectors = torch.randn(p, 6, generator=draw, dtype=torch.float64)
    power = (np.abs(np.fft.fft(vectors.numpy(), axis=0)) ** 2).sum(1)
    energy = {k: power[k] + (power[p - k] if 2 * k != p else 0) for k in range(1, p // 2 + 1)}
    expected = sorted(sorted(energy, key=energy.get, reverse=True)[:count])
    assert strongest_frequencies(CyclicGroup(p), vectors, count).tolist() == expected


def test_a_symbol_outside_the_group_does_not_count(draw):
    group = CyclicGroup(7, multiplicative=True)
    vectors = torch.randn(7, 3, generator=draw)
    changed = vectors.clone()
    changed[0] = 1e3
    one, two = (strongest_frequencies(group, each, 2).tolist() for each in (vectors, changed))
    assert one == two


def test_of_equals_the_lowest_come_first():
    assert strongest_frequencies(CyclicGroup(9), torch.zeros(9, 2), 2).tolist() == [1, 2]


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
