import numpy as np
import pytest
import torch

from mechmem.math.filtration import strongest_frequencies
from mechmem.tasks.groups import CyclicGroup


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
