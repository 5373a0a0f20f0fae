import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math.filtration import frequency_part, frequency_power, key_frequency
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
