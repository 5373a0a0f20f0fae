"""Shared subspaces: planted clusters are found, filters equal dense algebra, memories go, and no symbol is favoured."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from mechmem.math.cross_role import candidates, chosen_count, cross_role_energies
from mechmem.math.left_out import filters_without, leave_one_out
from mechmem.math.subspaces import (
    Clusters,
    affinity,
    cluster,
    directions,
    embedding,
)

N, CLUSTERS, SIZE = 24, 4, 30


def planted(seed=0, noise=0.2, roles=3):
    """Vectors of 4 clusters of 30 neurons, each cluster in planes of its own, and the cluster of every neuron."""
    draw = torch.Generator().manual_seed(seed)
    own = torch.arange(CLUSTERS).repeat_interleave(SIZE)[torch.randperm(CLUSTERS * SIZE, generator=draw)]
    vectors = []
    for _ in range(roles):
        planes = torch.linalg.qr(torch.randn(N, 2 * CLUSTERS, generator=draw, dtype=torch.float64)).Q
        weights = torch.randn(2, CLUSTERS * SIZE, generator=draw, dtype=torch.float64)
        inside = (planes.reshape(N, CLUSTERS, 2)[:, own] * weights.T).sum(2)
        vectors.append(inside + noise * torch.randn(N, CLUSTERS * SIZE, generator=draw, dtype=torch.float64) / N**0.5)
    return vectors, own


def fitted(units, count, strength=2.0, seed=0):
    return cluster(units, embedding(affinity(units), count, seed), strength, seed)


def test_planted_clusters_are_found_and_their_number():
    vectors, own = planted()
    units, live = directions(vectors)
    assert live.all()
    assert adjusted_rand_score(own, fitted(units, CLUSTERS).cluster) == 1
    tried = cross_role_energies(units, (2, 3, 4, 6, 8), 2.0, 0)
    assert chosen_count(tried) == CLUSTERS
    assert all((each.observed - each.permuted).shape == (3,) for each in tried)


@pytest.mark.parametrize("at_once", [2**23, 500])
def test_energies_are_those_of_dense_filters(at_once, monkeypatch):
    """Of clusters of few neurons and of many, of one, and of none."""
    monkeypatch.setattr("mechmem.math.subspaces.AT_ONCE", at_once)
    draw = torch.Generator().manual_seed(3)
    sizes = (60, 1, 0, 7, N // 2, N // 2 + 1, 3)
    units, _ = directions([torch.randn(n, sum(sizes), generator=draw, dtype=torch.float64) for n in (N, 40, 5)])
    own = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[torch.randperm(sum(sizes), generator=draw)]
    weight = torch.rand(len(own), generator=draw, dtype=torch.float64)
    others, _ = directions([torch.randn(n, 11, generator=draw, dtype=torch.float64) for n in (N, 40, 5)])
    found = Clusters(tuple(units), own, weight, len(sizes), 0.7).energies(others)
    for role, (x, y) in enumerate(zip(units, others, strict=True)):
        for each in range(len(sizes)):
            inside = own == each
            mean = (x[:, inside] * weight[inside]) @ x[:, inside].T / weight[inside].sum().clamp_min(1e-9)
            dense = mean @ torch.linalg.inv(mean + 0.7 / len(x) * torch.eye(len(x), dtype=torch.float64))
            wanted = (y * (dense @ y)).sum(0) - dense.trace() / len(x)
            torch.testing.assert_close(found[role, each], wanted, rtol=0, atol=1e-12)


def test_random_vectors_share_nothing():
    draw = torch.Generator().manual_seed(1)
    units, _ = directions([torch.randn(N, 200, generator=draw) for _ in range(3)])
    assert max(each.excess for each in cross_role_energies(units, (2, 4, 8), 2.0, 0)) < 0.02
    _, energies = leave_one_out(units, fitted(units, 4))
    # Not 0: each neuron has chosen the cluster that it fits best.
    assert abs(float(energies.mean())) < 0.1
    kept, _ = directions(planted()[0])
    assert float(leave_one_out(kept, fitted(kept, CLUSTERS))[1].mean()) > 0.5


def test_affinity_is_the_sum_of_fourth_powers():
    vectors, _ = planted(roles=2)
    units, _ = directions(vectors)
    one, other = (each.numpy() for each in units)
    wanted = (one.T @ one) ** 4 + (other.T @ other) ** 4
    np.fill_diagonal(wanted, 0)
    np.testing.assert_allclose(affinity(units).numpy(), wanted, atol=1e-15)


@pytest.mark.parametrize("neurons", [1100, 120])
def test_the_embedding_is_the_top_of_the_normalised_affinities(neurons):
    """Above 1024 neurons by Lanczos, below in full."""
    draw = torch.Generator().manual_seed(2)
    own = torch.arange(neurons) % 5
    vectors = torch.randn(12, 5, generator=draw).double()[:, own] + 0.3 * torch.randn(12, neurons, generator=draw)
    table = affinity(directions([vectors])[0]).numpy()
    scale = table.sum(1) ** -0.5
    values, axes = np.linalg.eigh(scale[:, None] * table * scale)
    top = embedding(torch.from_numpy(table), 5, 0)
    np.testing.assert_allclose(top @ top.T, axes[:, -5:] @ axes[:, -5:].T, atol=1e-4)
    assert abs(top[:, 0] @ axes[:, -1]) == pytest.approx(1, abs=1e-5)


def slowly(units, found, strength):
    """Each neuron's filter built from the others of its cluster, one by one and with an inverse."""
    parts, energies = [], []
    for x in units:
        n = len(x)
        part, energy = np.zeros(x.shape), np.zeros(x.shape[1])
        for m in range(x.shape[1]):
            others = [i for i in range(x.shape[1]) if i != m and found.cluster[i] == found.cluster[m]]
            if not others:
                continue
            weight = found.weight[others].numpy()
            moment = (x[:, others].numpy() * weight) @ x[:, others].numpy().T / weight.sum()
            kept = moment @ np.linalg.inv(moment + strength / n * np.eye(n))
            part[:, m] = kept @ x[:, m].numpy()
            energy[m] = x[:, m].numpy() @ part[:, m] - np.trace(kept) / n
        parts.append(part)
        energies.append(energy)
    return parts, np.stack(energies)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**30), st.floats(0.1, 10), st.integers(2, 6))
def test_leaving_one_out_is_building_the_filter_from_the_others(seed, strength, count):
    draw = torch.Generator().manual_seed(seed)
    units, _ = directions([torch.randn(n, 40, generator=draw, dtype=torch.float64) for n in (7, 9)])
    found = fitted(units, count, strength, seed)
    parts, energies = leave_one_out(units, found)
    wanted, wanted_energies = slowly(units, found, strength)
    for part, each in zip(parts, wanted, strict=True):
        np.testing.assert_allclose(part.numpy(), each, atol=1e-9)
    np.testing.assert_allclose(energies.numpy(), wanted_energies, atol=1e-9)


def test_filters_are_those_of_the_parts():
    vectors, _ = planted(noise=0.5)
    units, _ = directions(vectors)
    found = fitted(units, 5)
    parts, _ = leave_one_out(units, found)
    for role, x in enumerate(units):
        seen = []
        for neurons, kept in filters_without(x, found, role):
            torch.testing.assert_close(kept, kept.mT, atol=1e-12, rtol=0)
            own = torch.einsum("mre,em->rm", kept, x[:, neurons])
            torch.testing.assert_close(own, parts[role][:, neurons], atol=1e-10, rtol=0)
            seen += neurons.tolist()
        assert sorted(seen) == list(range(CLUSTERS * SIZE))


def test_a_neuron_alone_in_its_cluster_shares_nothing():
    vectors, _ = planted(noise=0.05)
    stranger = torch.zeros(N, 1, dtype=torch.float64)
    stranger[3], stranger[4] = 1, -1
    units, _ = directions([torch.cat([each, stranger], 1) for each in vectors])
    found = fitted(units, 3)
    lonely = found.cluster.clone()
    lonely[-1] = 3
    parts, energies = leave_one_out(units, dataclasses.replace(found, cluster=lonely, count=4))
    assert all((part[:, -1] == 0).all() for part in parts) and (energies[:, -1] == 0).all()


def test_what_one_neuron_alone_holds_is_taken_out():
    """A memory: one cell in one neuron's vectors, on top of what its cluster shares."""
    vectors, own = planted(noise=0.0)
    spiked = [each.clone() for each in vectors]
    size = float(vectors[0][:, 0].norm())
    for each in spiked:
        each[5, 0] += 0.7 * size
    units, _ = directions(spiked)
    parts, _ = leave_one_out(units, fitted(units, CLUSTERS))
    spike = torch.zeros(N, dtype=torch.float64)
    spike[5] = 1
    for part, unit, raw in zip(parts, units, vectors, strict=True):
        clean = raw[:, 0] - raw[:, 0].mean()
        off = spike - clean * (spike @ clean) / clean.square().sum()
        assert abs(float(part[:, 0] @ off)) < 0.25 * abs(float(unit[:, 0] @ off))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**30))
def test_renaming_entries_renames_the_parts(seed):
    """Each role's entries on their own: no symbol has a place, and no operand's symbols are the other's."""
    draw = torch.Generator().manual_seed(seed)
    vectors, _ = planted(seed=seed % 100)
    orders = [torch.randperm(N, generator=draw) for _ in vectors]
    results = []
    for renamed in (vectors, [each[order] for each, order in zip(vectors, orders, strict=True)]):
        units, _ = directions(renamed)
        results.append(leave_one_out(units, fitted(units, CLUSTERS)))
    for one, other, order in zip(results[0][0], results[1][0], orders, strict=True):
        torch.testing.assert_close(one[order], other, atol=1e-8, rtol=0)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-8, rtol=0)


def test_dead_neurons_have_no_direction():
    vectors, _ = planted(roles=2)
    vectors[0][:, 7] = 0.3
    vectors[1][:, 9] = 0
    units, live = directions(vectors)
    assert (~live).nonzero()[:, 0].tolist() == [7, 9] and units[0].shape == (N, CLUSTERS * SIZE - 2)
    for each in units:
        torch.testing.assert_close(each.norm(dim=0), torch.ones(each.shape[1], dtype=torch.float64))
        torch.testing.assert_close(each.mean(0), torch.zeros(each.shape[1], dtype=torch.float64), atol=1e-15, rtol=0)


def test_more_neurons_allow_more_clusters():
    assert candidates(60) == (2, 3, 4, 6, 8) and candidates(12) == (2,) and not candidates(8)
    assert candidates(512)[-1] == 64 and candidates(10**6)[-1] == 96
