import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math import fourier

SIZES = [2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 29, 59, 97, 113, 120]
TOLERANCE = {torch.float32: dict(rtol=2e-5, atol=2e-5), torch.float64: dict(rtol=1e-11, atol=1e-11)}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("n", [1, *SIZES])
def test_basis_is_orthonormal(n):
    basis = fourier.real_basis(n)
    assert basis.shape == (1 + 2 * (n // 2), n)
    if n % 2 == 0:
        assert (basis[-1] == 0).all()
        basis = basis[:-1]
    assert basis.shape == (n, n)
    torch.testing.assert_close(basis @ basis.T, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", SIZES)
def test_rows_of_the_basis_are_the_cosines_and_sines_they_say(n):
    basis, i = fourier.real_basis(n).numpy(), np.arange(n)
    for k in range(1, n // 2 + 1):
        cosine, sine = np.cos(2 * np.pi * k * i / n), np.sin(2 * np.pi * k * i / n)
        np.testing.assert_allclose(basis[2 * k - 1], cosine / np.linalg.norm(cosine), atol=1e-12)
        if 2 * k != n:
            np.testing.assert_allclose(basis[2 * k], sine / np.linalg.norm(sine), atol=1e-12)


@pytest.mark.parametrize("like", [None, torch.zeros(0, dtype=torch.float64), torch.zeros(0)])
def test_changing_a_basis_changes_no_other(like):
    fourier.real_basis(7, like).zero_()
    assert fourier.real_basis(7).abs().sum() > 0


@dtypes
@pytest.mark.parametrize("n", SIZES)
def test_power_is_that_of_numpy(n, dtype):
    vectors = normal(n, 6, dtype=dtype)
    spectrum = np.fft.fft(vectors.double().numpy(), axis=0, norm="ortho")
    energy = np.abs(spectrum) ** 2
    expected = np.stack([energy[k] + (energy[n - k] if 2 * k != n else 0) for k in range(1, n // 2 + 1)])
    found = fourier.power(vectors)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), expected, **TOLERANCE[dtype])


@given(st.integers(2, 40), st.integers(1, 4))
def test_power_and_the_constant_sum_to_the_norm(n, width):
    vectors = normal(n, width, seed=n)
    total = fourier.power(vectors).sum(0) + n * vectors.mean(0) ** 2
    torch.testing.assert_close(total, vectors.square().sum(0))


def test_power_takes_any_trailing_axes():
    vectors = normal(9, 2, 3, 4)
    flat = fourier.power(vectors.reshape(9, -1)).reshape(4, 2, 3, 4)
    torch.testing.assert_close(fourier.power(vectors), flat)
    assert fourier.power(vectors[:, 0, 0, 0]).shape == (4,)


@dtypes
@pytest.mark.parametrize("n", SIZES)
def test_keep_frequency_is_the_inverse_transform_of_the_masked_spectrum(n, dtype):
    frequencies = torch.arange(1, n // 2 + 1)
    vectors = normal(n, len(frequencies), dtype=dtype)
    spectrum = np.fft.fft(vectors.double().numpy(), axis=0)
    mask = np.zeros_like(spectrum)
    for column, k in enumerate(frequencies.tolist()):
        mask[[k, (n - k) % n], column] = 1
    found = fourier.keep_frequency(vectors, frequencies)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), np.fft.ifft(spectrum * mask, axis=0).real, **TOLERANCE[dtype])


@given(st.integers(2, 30), st.integers(0, 1000))
def test_the_parts_at_all_frequencies_and_the_constant_add_up(n, seed):
    vector = normal(n, 1, seed=seed)
    k = torch.arange(1, n // 2 + 1)
    parts = fourier.keep_frequency(vector.expand(n, len(k)), k)
    torch.testing.assert_close(parts.sum(1, keepdim=True) + vector.mean(), vector)
    torch.testing.assert_close(fourier.keep_frequency(parts, k), parts)


@pytest.mark.parametrize("k, n", [(0, 7), (4, 7), (-1, 7), (5, 8)])
def test_a_frequency_out_of_range_is_refused(k, n):
    with pytest.raises(ValueError, match=f"must lie in 1 … {n // 2}, got {k}"):
        fourier.keep_frequency(normal(n, 1), torch.tensor([k]))


def test_no_neurons_are_no_problem():
    assert fourier.keep_frequency(normal(7, 0), torch.zeros(0, dtype=torch.long)).shape == (7, 0)


@dtypes
@pytest.mark.parametrize("n", SIZES)
def test_phases_are_recovered_at_every_frequency(n, dtype):
    k = torch.arange(1, n // 2 + 1)
    planted = (2 * torch.rand(len(k), generator=torch.Generator().manual_seed(n), dtype=torch.float64) - 1) * np.pi
    planted[2 * k == n] = np.pi
    i = torch.arange(n, dtype=torch.float64)[:, None]
    wave = 3.7 * torch.cos(2 * np.pi * (k * i) / n + planted) + 0.9
    found = fourier.phase_at(wave.to(dtype), k).double()
    assert ((found > -np.pi - 1e-6) & (found <= np.pi + 1e-6)).all()
    distance = torch.remainder(found - planted + np.pi, 2 * np.pi) - np.pi
    assert distance.abs().max() < (1e-3 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_alternating_vector_has_phase_zero_or_pi(n):
    alternating = 1.0 - 2 * (torch.arange(n, dtype=torch.float64) % 2)
    vectors = torch.stack([alternating, -alternating], 1)
    assert fourier.phase_at(vectors, torch.tensor([n // 2, n // 2])).tolist() == [0, np.pi]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 13, 16])
def test_grid_modes_are_those_of_numpy_and_come_back(n):
    table = normal(n, n, 3)
    modes = fourier.grid_modes(table)
    full = np.fft.fft2(table.numpy(), axes=(0, 1), norm="ortho")
    np.testing.assert_allclose(modes.numpy(), full[:, : n // 2 + 1], atol=1e-12)
    torch.testing.assert_close(fourier.from_modes(modes), table)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 13, 16])
def test_mode_energy_counts_everything_once(n):
    table = normal(n, n, 3)
    energy = fourier.mode_energy(fourier.grid_modes(table))
    torch.testing.assert_close(energy.sum(), table.square().sum())
    full = (np.abs(np.fft.fft2(table.numpy(), axes=(0, 1), norm="ortho")) ** 2).sum(-1)
    for k2 in range(1, (n - 1) // 2 + 1):
        for k1 in range(n):
            assert energy[k1, k2] == pytest.approx(full[k1, k2] + full[-k1, -k2])


@pytest.mark.parametrize("convention", ["one_sided", "two_sided"])
@pytest.mark.parametrize("scale", [1e-15, 1e-12, 1.0, 1e12])
def test_participation_does_not_depend_on_length(convention, scale):
    """Weight decay leaves neurons whose energies, squared, are below what float32 can hold."""
    from mechmem.tasks.groups import CyclicGroup

    group, vectors = CyclicGroup(13), normal(13, 5)
    wanted = fourier.inverse_participation(group.spectrum(vectors), group.multiplicity, convention)
    short = group.spectrum((vectors * scale).float())
    found = fourier.inverse_participation(short, group.multiplicity, convention)
    assert torch.allclose(found.double(), wanted, rtol=1e-4)
    assert not fourier.inverse_participation(0 * short, group.multiplicity, convention).any()
    assert fourier.inverse_participation(torch.nan * short, group.multiplicity, convention).isnan().all()
