"""Every measure against numpy's full DFT in float64, for odd, even and small lengths and every frequency."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechmem.math import fourier
from mechmem.math import fourier as c
from mechmem.math.fourier import amplitude_at, cosines, keep_frequency, phase_at
from mechmem.tasks.groups import CyclicGroup

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
    torch.testing.assert_close(torch.fft.irfft2(modes, s=(n, n), dim=(0, 1), norm="ortho"), table)


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


@given(n=st.integers(2, 30), seed=st.integers(0, 10**6))
def test_amplitude_and_phase_rebuild_the_part_at_a_frequency(n, seed):
    draw = torch.Generator().manual_seed(seed)
    k = torch.arange(1, n // 2 + 1)
    vectors = torch.randn(n, len(k), generator=draw, dtype=torch.float64)
    rebuilt = cosines(n, k, amplitude_at(vectors, k), phase_at(vectors, k))
    torch.testing.assert_close(rebuilt, keep_frequency(vectors, k), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [3, 8, 97])
def test_known_cosines_are_measured(n):
    position = np.arange(n)[:, None]
    k = np.arange(1, (n - 1) // 2 + 1)
    amplitude, phase = 0.5 + k / n, np.linspace(-3, 3, len(k))
    vectors = amplitude * np.cos(2 * np.pi * k * position / n + phase)
    tensor, freq = torch.from_numpy(vectors), torch.from_numpy(k)
    np.testing.assert_allclose(amplitude_at(tensor, freq), amplitude, atol=1e-12)
    np.testing.assert_allclose(
        cosines(n, freq, torch.from_numpy(amplitude), torch.from_numpy(phase)), vectors, atol=1e-12
    )


def test_the_alternating_vector_has_its_own_amplitude():
    vector = torch.tensor([[-2.0], [2.0], [-2.0], [2.0]], dtype=torch.float64)
    assert float(amplitude_at(vector, torch.tensor([2]))) == pytest.approx(2)


LENGTHS = [2, 3, 4, 5, 7, 12, 59, 113]


def measured(vectors):
    """(power, multiplicity) of columns over the additive group."""
    group = CyclicGroup(len(vectors))
    return c.varying_power(group.spectrum(vectors)), group.multiplicity[1:]


def wave(n, k, amplitude, phase):
    return amplitude * np.cos(2 * np.pi * k * np.arange(n) / n + phase)


def reference_sparsity(x):
    squared = np.abs(np.fft.fft(x)) ** 2
    n = len(x)
    tau = 1 + int(np.argmax(squared[1 : n // 2 + 1]))
    copies = 1 if 2 * tau == n else 2
    return copies * squared[tau] / squared[1:].sum()


def reference_periodicity(x):
    amplitude = np.abs(np.fft.rfft(x))[1:]
    return amplitude.max() / amplitude.mean()


def reference_gini(values):
    n = len(values)
    return np.abs(values[:, None] - values[None, :]).sum() / (2 * n**2 * values.mean())


@pytest.mark.parametrize("n", LENGTHS)
def test_measures_equal_numpy(n):
    x = torch.from_numpy(np.random.default_rng(n).normal(size=(n, 9)) + 3)
    power, multiplicity = measured(x)
    columns = x.numpy().T
    np.testing.assert_allclose(c.sparsity(power, multiplicity), [reference_sparsity(y) for y in columns], rtol=1e-10)
    np.testing.assert_allclose(
        c.periodicity(power, multiplicity), [reference_periodicity(y) for y in columns], rtol=1e-10
    )
    wanted = [reference_gini(np.abs(np.fft.rfft(y))[1:] ** 2) for y in columns]
    np.testing.assert_allclose(c.spectral_gini(power, multiplicity), wanted, rtol=1e-9, atol=1e-12)
    energy = np.abs(np.fft.rfft(columns, axis=1)[:, 1:]) ** 2 * multiplicity.numpy()
    np.testing.assert_allclose(c.shares(power).T, energy / energy.sum(1, keepdims=True), rtol=1e-10)


@pytest.mark.parametrize("n", LENGTHS)
def test_a_pure_wave_is_found_at_every_frequency_to_the_last(n):
    k = torch.arange(1, n // 2 + 1)
    x = torch.from_numpy(np.stack([wave(n, int(each), 2.5, 0.0) + 1 for each in k], 1))
    power, multiplicity = measured(x)
    one = torch.ones(len(k), dtype=torch.float64)
    assert torch.equal(power.argmax(0) + 1, k)
    assert torch.allclose(c.sparsity(power, multiplicity), one)
    assert torch.allclose(c.periodicity(power, multiplicity), one * (n // 2))
    assert torch.allclose(c.spectral_gini(power, multiplicity), 1 - one / (n // 2))
    assert torch.allclose(c.wave_amplitude(power, multiplicity, n, k), 2.5 * one)


def test_the_nyquist_coefficient_stands_once():
    n = 8
    x = torch.from_numpy((wave(n, 4, 1.0, 0.0) + wave(n, 1, 1.0, 0.3))[:, None])
    power, multiplicity = measured(x)
    # |û|² is n² at the Nyquist frequency and n²/4 at each of ±1.
    assert float(c.sparsity(power, multiplicity)) == pytest.approx(1 / 1.5)


def test_a_vector_without_a_wave_has_nothing():
    x = torch.stack([torch.zeros(12), torch.full((12,), 0.1)], 1)
    power, multiplicity = measured(x)
    assert not power.any()
    for measure in (c.sparsity, c.periodicity, c.spectral_gini):
        assert torch.equal(measure(power, multiplicity), torch.zeros(2))
    assert torch.equal(c.shares(power), torch.zeros(6, 2))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40),
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-3, 1e3),
    shift=st.integers(0, 40),
)
def test_measures_ignore_scale_shift_and_constant(n, seed, scale, shift):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3)))
    power, multiplicity = measured(x)
    other, _ = measured(scale * x.roll(shift, 0) + 2 * scale)
    for measure in (c.sparsity, c.periodicity, c.spectral_gini):
        assert torch.allclose(measure(power, multiplicity), measure(other, multiplicity), rtol=1e-6, atol=1e-9)
    assert ((c.sparsity(power, multiplicity) > 0) & (c.sparsity(power, multiplicity) < 1 + 1e-12)).all()


@settings(max_examples=60, deadline=None)
@given(st.floats(-50, 50))
def test_wrapped_angles_are_the_same_angle(angle):
    wrapped = float(c.wrap_angle(torch.tensor([angle], dtype=torch.float64)))
    assert -np.pi <= wrapped < np.pi + 1e-12
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-9)
    assert np.sin(wrapped) == pytest.approx(np.sin(angle), abs=1e-9)
