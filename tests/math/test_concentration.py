"""Every measure against numpy's full DFT in float64, for odd, even and small lengths and every frequency."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechmem.math import fourier as c
from mechmem.tasks.groups import CyclicGroup

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
