import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math.fourier import amplitude_at, cosines, keep_frequency, phase_at


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
