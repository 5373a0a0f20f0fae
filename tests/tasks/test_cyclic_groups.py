import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.tasks.grid import cyclic_group, grid_rows
from mechmem.tasks.groups import CyclicGroup

PRIMES = [3, 5, 7, 11, 13, 59, 61, 113]


@pytest.mark.parametrize("p", PRIMES)
def test_multiplication_becomes_addition_of_logarithms(p):
    group = CyclicGroup(p, multiplicative=True)
    assert sorted(group.elements.tolist()) == list(range(1, p))
    assert group.outside.tolist() == [0] and group.logarithm[0] == -1
    log = group.logarithm
    for a in range(1, p, max(1, p // 9)):
        for b in range(1, p):
            assert group.elements[(log[a] + log[b]) % (p - 1)] == a * b % p
    assert group.n_frequencies == (p - 1) // 2


@pytest.mark.parametrize("p", PRIMES)
def test_the_generator_is_the_smallest_by_brute_force(p):
    def generates(g):
        return len({pow(g, i, p) for i in range(p - 1)}) == p - 1

    smallest = next(g for g in range(1, p) if generates(g))
    assert CyclicGroup(p, multiplicative=True).elements[1] == smallest


@pytest.mark.parametrize("p", [2, 3, 4, 9, 15, 16])
def test_the_additive_group_is_the_residues_in_order(p):
    group = CyclicGroup(p)
    assert group.elements.tolist() == group.logarithm.tolist() == list(range(p))
    assert len(group.outside) == 0 and group.n_frequencies == p // 2


@pytest.mark.parametrize("p", [5, 7, 13])
def test_multiplicative_frequencies_are_those_of_the_reordered_vector(p, draw):
    group = CyclicGroup(p, multiplicative=True)
    vectors = torch.randn(p, 4, generator=draw, dtype=torch.float64)
    ordered = vectors.numpy()[[pow(int(group.elements[1]), i, p) for i in range(p - 1)]]
    spectrum = np.abs(np.fft.fft(ordered, axis=0, norm="ortho")) ** 2
    half = (p - 1) // 2
    expected = np.stack([spectrum[k] + (spectrum[-k] if k < half else 0) for k in range(1, half + 1)])
    np.testing.assert_allclose(group.power(vectors).numpy(), expected, atol=1e-12)
    changed = vectors.clone()
    changed[0] = 99.0
    torch.testing.assert_close(group.power(changed), group.power(vectors))

    freq = torch.tensor([1, half, 1, half])
    kept = group.keep(vectors, freq)
    assert (kept[0] == 0).all()
    torch.testing.assert_close(group.power(kept).sum(0), group.power(vectors).gather(0, freq[None] - 1)[0])
    wave = np.cos(2 * np.pi * np.arange(p - 1)[:, None] * freq.numpy() / (p - 1) + np.array([0.3, 0, -1.2, np.pi]))
    expected_phase = torch.tensor([0.3, 0, -1.2, np.pi], dtype=torch.float64)
    planted = torch.zeros(p, 4, dtype=torch.float64)
    planted[group.elements] = torch.from_numpy(wave)
    torch.testing.assert_close(group.phase(planted, freq), expected_phase, atol=1e-9, rtol=0)


@pytest.mark.parametrize("op, p", [("add", 6), ("subtract", 5), ("multiply", 7)])
def test_rows_of_the_grid_are_in_the_order_of_the_group(op, p):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p))
    elements = task.group.elements
    rows = grid_rows(task)
    for i, a in enumerate(elements.tolist()):
        for j, b in enumerate(elements.tolist()):
            assert task.operands[rows[i, j]].tolist() == [a, b]


def test_rows_are_positions_not_ids(draw):
    order = torch.randperm(25, generator=draw)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))[order]
    labels = pairs.sum(1) % 5
    task = mm.ArrayTask(pairs, labels, labels, torch.arange(25) < 20, operation="add")
    rows = grid_rows(task)
    assert all(task.operands[rows[a, b]].tolist() == [a, b] for a in range(5) for b in range(5))


def test_a_missing_pair_or_group_is_said():
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))[:-1]
    labels = pairs.sum(1) % 5
    with pytest.raises(MissingNeedError, match="every pair"):
        grid_rows(mm.ArrayTask(pairs, labels, labels, torch.arange(24) < 20, operation="add", n_classes=5))
    with pytest.raises(MissingNeedError, match="cyclic group"):
        cyclic_group(mm.ArrayTask(pairs, labels, labels, torch.arange(24) < 20))


@pytest.mark.parametrize("p", [1, 4, 6, 8, 9])
def test_residues_that_are_no_group_are_refused(p):
    """Nonzero residues mod a composite number cannot all be multiplied back, primitive root or not."""
    with pytest.raises(ConfigError, match=f"for prime p, got {p}"):
        CyclicGroup(p, multiplicative=True)


@pytest.mark.parametrize("p", [1, 2, 3, 6, 7])
def test_spectrum_and_multiplicity_are_those_of_the_dft(p, draw):
    vectors = torch.randn(p, 4, generator=draw, dtype=torch.float64)
    group = CyclicGroup(p)
    energy = torch.fft.fft(vectors, dim=0, norm="ortho").abs().square()
    wanted = torch.zeros(p // 2 + 1, 4, dtype=torch.float64)
    count = torch.zeros(p // 2 + 1, dtype=torch.long)
    for k in range(p):
        wanted[min(k, p - k)] += energy[k]
        count[min(k, p - k)] += 1
    assert torch.allclose(group.spectrum(vectors), wanted)
    assert torch.equal(group.multiplicity, count)
